"""The base of all tasks: network, losses, metrics, steps and optimizer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from kd_lightning.callbacks.of_task import callbacks_of_task, renew_averages
from kd_lightning.docstrings import show_options
from kd_lightning.errors import require_object
from kd_lightning.losses import Batch, Loss, LossSum, Targets
from kd_lightning.losses.pairs import connect_heads, feature_extractor
from kd_lightning.losses.total import TeacherShapes, check_losses
from kd_lightning.machine.terminal import print_fitted
from kd_lightning.networks import Network
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.tasks.checkpoints import check_checkpoint, describe_checkpoint, model_info
from kd_lightning.tasks.compiled import CompiledNetworks
from kd_lightning.tasks.epoch_metrics import EpochMetrics
from kd_lightning.tasks.optimization import (
    Interval,
    check_factories,
    flattens_weights,
    notebook_optimizer,
    schedule_entry,
)
from kd_lightning.tasks.sam import SAM, check_for_sam, second_pass
from kd_lightning.tasks.step import Step
from kd_lightning.wording import shown_lines

if TYPE_CHECKING:
    from kd_lightning.data.base import ImageDataModule
    from kd_lightning.inference.model_info import ModelInfo


class Task(LightningModule):
    """Train a network by a weighted sum of named losses.

    Your own task trains in Lightning's loop unless its class itself sets ``works_with_fast_path = True``. Its step must
    then not log, and must read nothing from Python that changes between steps, such as ``current_epoch``.

    Args:
        network: The network to train.
        losses: The losses by name; the names are those of curves and options.
        teacher_shapes: The shapes of what the losses see of a teacher, or a function that returns them by the loss's
            name; ``None`` where there is none.
        optimizer: Creates the optimizer of the trained parameters.
        lr_scheduler: Creates the learning rate schedule; none by default.
        lr_interval: Whether the schedule is updated every ``epoch`` or every ``step``; ``auto``: OneCycle, OneCycleLR
            and CyclicLR every step, any other every epoch.
        fast: Whether ``fit``, by its callback ``TrainAhead``, runs many steps in one call of Lightning's, on a GPU as a
            CUDA graph. ``auto`` does so on a GPU (on a CPU it saves less than a tenth of the time) where all parts of a
            step are known to work with it; ``true`` requires it.
        compiled: Whether torch.compile compiles the networks for full training batches. It takes half a minute at the
            start and then gives fewer and larger kernels on a GPU; on a CPU it does not pay.
        reparameterize: Structural re-parameterization. 4 trains a larger network with a BatchNorm after each layer but
            the last and convolutions factored through 4 times their channels (2 points for LightNN); 1 adds only the
            BatchNorm; 0 trains the network as it is. The fused, plain network is tested, saved and exported.

    Attributes:
        images: Images in the data set that the losses are trained on; 0 before it is known.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Show also the options that the bases have."""
        super().__init_subclass__(**options)
        show_options(cls)

    def __init__(
        self,
        network: Network,
        losses: dict[str, Loss],
        teacher_shapes: TeacherShapes | None = None,
        *,
        optimizer: OptimizerCallable = notebook_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Interval = "auto",
        fast: bool | Literal["auto"] = "auto",
        compiled: bool = False,
        reparameterize: int = 0,
    ) -> None:
        super().__init__()
        require_object("network", network, Network, "LightNN(), or ModuleNetwork(module='my_networks.Net')")
        check_losses(losses)
        check_factories(optimizer, lr_scheduler)
        network = reparameterize_network(network, reparameterize) if reparameterize else network
        connect_heads(network, losses)
        network.normalization = None  # it learns the data's
        self.network = network.to_channels_last()
        self.extractor = feature_extractor(network, network, losses, lambda loss: loss.student_layers)
        self.losses = LossSum(losses, self.extractor.shapes, teacher_shapes)
        self.metrics = EpochMetrics(losses, network.num_classes, with_teacher=teacher_shapes is not None)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.fast = fast
        self.compiled = compiled
        self.reparameterize = reparameterize
        self._compiled = CompiledNetworks()
        self.images = 0
        self._when_ready: list[Callable[[], None]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalized images (B, C, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]

    def step(self, batch: Batch) -> Step:
        """Return the logits and the losses of a batch of normalized images."""
        is_compiled = self.compiled and self.training
        with self._compiled.used(self.networks(), len(batch.rows)) if is_compiled else nullcontext():
            student, (targets, teacher_logits) = self.extractor(batch.images), self.teacher_outputs(batch)
        loss, losses = self.losses(student, targets, batch)
        count = len(batch.labels)  # unlabelled images are the last
        teacher_logits = None if teacher_logits is None else teacher_logits[:count]
        return Step(student.logits[:count], loss, losses, batch.labels, teacher_logits)

    def teacher_outputs(self, batch: Batch) -> tuple[Mapping[str, Targets], Tensor | None]:
        """Return what each loss needs of a teacher, by its name, and the teacher's logits, if it runs."""
        return {}, None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that is minimized."""
        return self.metrics.add("train", self.step(batch)).loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure losses and accuracy on validation images."""
        self.metrics.add("val", self.step(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> Step:  # type: ignore[override]  # Lightning takes anything
        """Measure losses and accuracy on test images; callbacks see the step."""
        return self.metrics.add("test", self.step(batch))

    def configure_optimizers(self) -> Any:
        """Create the optimizer of the trained parameters, and its schedule."""
        optimizer = self.optimizer(self.trained_parameters())
        if isinstance(optimizer, SAM):
            check_for_sam(self.trainer)
            optimizer.second_pass = partial(second_pass, self)
        if flattens_weights(optimizer, self.trainer):
            self.network.to(memory_format=torch.contiguous_format)
        if self.lr_scheduler is None:
            return optimizer
        entry = schedule_entry(self.lr_scheduler(optimizer), self.lr_interval, self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": entry}

    def configure_callbacks(self) -> list[Callback]:
        """Bring the callbacks that act around training, to any trainer; a subclass may add some, and keeps these."""
        return callbacks_of_task(self.trainer)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print in the first process, in lines that fit the terminal."""
        if self.trainer.is_global_zero:
            print_fitted(shown_lines(" ".join(map(str, args))), **kwargs)

    def networks(self) -> tuple[Network, ...]:
        """Return the networks that run in a step."""
        return (self.network,)

    def step_modules(self) -> tuple[nn.Module, ...]:
        """Return all modules that run in a step, without the metrics, which are updated after it."""
        return tuple(child for child in self.children() if not isinstance(child, EpochMetrics))

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the optimizer trains: the network's and those of the losses."""
        yield from self.network.parameters()
        yield from self.losses.parameters()

    @property
    def data(self) -> "ImageDataModule":
        """The datamodule of the running trainer."""
        return self.trainer.datamodule  # type: ignore[attr-defined, no-any-return]

    def model_info(self) -> "ModelInfo":
        """Return what a file of the trained network contains besides its weights."""
        return model_info(self)

    def setup(self, stage: str) -> None:
        """Forget what a run that was stopped has left, and tell the losses what they are trained on."""
        self.metrics.reset()
        if stage == "fit":
            labels = self.data.train_rows()[0].labels
            self.start_losses(len(labels), labels)
            renew_averages(self.trainer)

    def start_losses(self, images: int, labels: Tensor | None) -> None:
        """Create what the losses keep of each image; the labels are ``None`` outside of training."""
        self.images = images
        self.losses.start(images, labels)

    def when_ready(self, function: Callable[[], None]) -> None:
        """Register a function that is called before the first step, when all that steps need is there."""
        self._when_ready.append(function)

    def on_train_start(self) -> None:
        """Prepare, and call what waits for the first step; the callbacks have acted."""
        self.prepare()
        while self._when_ready:
            self._when_ready.pop(0)()

    def found_weights(self) -> dict[str, Any] | None:
        """Return the weights of losses that ``balance`` has found, and its ratio; ``None`` without it."""
        return None

    def prepare(self) -> None:
        """Prepare once, before the first step."""

    def on_train_epoch_end(self) -> None:
        """Log the metrics of training."""
        self.metrics.log("train", self)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of validation."""
        self.metrics.log("val", self)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test."""
        self.metrics.log("test", self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of network and data."""
        describe_checkpoint(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other data, another network or another task."""
        check_checkpoint(self, checkpoint)
