"""The base of all tasks: network, losses, metrics, steps and optimizer."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MetricCollection

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.compatibility import check_network
from kd_lightning.data.loader import Batch, BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import Loss
from kd_lightning.machine.host_memory import keep_freed_memory, return_freed_memory
from kd_lightning.networks import Network
from kd_lightning.networks.fusable import fused, fused_weights, is_reparameterized
from kd_lightning.networks.layers import Shapes
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.networks.weights import INFO_KEY, PLAIN_KEY, network_weights
from kd_lightning.tasks.averaged import end_training, shape_averages, start_averages
from kd_lightning.tasks.compiled import CompiledNetworks
from kd_lightning.tasks.epoch_metrics import Stage
from kd_lightning.tasks.finite import LossWatch
from kd_lightning.tasks.monitors import check_callbacks
from kd_lightning.tasks.objective import IMAGES_KEY, Objective
from kd_lightning.tasks.optimization import (
    Interval,
    check_length,
    check_resumed,
    described,
    flattens_weights,
    notebook_optimizer,
    schedule_entry,
)
from kd_lightning.tasks.random_state import RandomState
from kd_lightning.tasks.resumed import ENDED_KEY, check_origin, check_weights_fit
from kd_lightning.tasks.single_images import check_last_batch
from kd_lightning.tasks.step_output import LabelledOutput, StepOutput
from kd_lightning.tasks.trained import info_of, training_record


class Task(Objective):
    """Train a network by a weighted sum of named losses.

    Your own task trains in Lightning's loop unless its class itself sets ``works_with_fast_path = True``. Its step must
    then not log, and must read nothing from Python that changes between steps, such as ``current_epoch``.

    Args:
        network: The network to train.
        losses: The losses by name; the names are those of curves and options.
        teacher_shapes: The shapes of what the losses see of a teacher; ``None`` where there is none.
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
    """

    def __init__(
        self,
        network: Network,
        losses: dict[str, Loss],
        teacher_shapes: Shapes | None = None,
        optimizer: OptimizerCallable = notebook_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Interval = "auto",
        fast: bool | Literal["auto"] = "auto",
        compiled: bool = False,
        reparameterize: int = 0,
    ) -> None:
        network = reparameterize_network(network, reparameterize) if reparameterize else network
        super().__init__(network.to_channels_last(), losses, teacher_shapes)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.fast = fast
        self.compiled = compiled
        self._random = RandomState()
        self._optimization: dict[str, Any] = {}
        self._resumed: dict[str, Any] = {}
        self._compiled: CompiledNetworks | None = None
        self._when_ready: list[Callable[[], None]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalized images (B, C, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]

    def loss_step(self, batch: Batch) -> LabelledOutput:
        """Return the weighted loss of a batch, the output that it is computed from, and the labels."""
        with self._as_compiled(batch):
            output = self.model_step(batch)
        return LabelledOutput(self.weighted_loss(output), output, batch.labels)

    def _as_compiled(self, batch: Batch) -> AbstractContextManager[None]:
        """Run the compiled networks in training where ``compiled`` is set."""
        if not (self.compiled and self.training):
            return nullcontext()
        if self._compiled is None:
            self._compiled = CompiledNetworks(self.networks())
        return self._compiled.used(len(batch.rows))

    def networks(self) -> tuple[Network, ...]:
        """Return the networks that run in a step."""
        return (self.network,)

    def step_modules(self) -> tuple[nn.Module, ...]:
        """Return all modules that run in a step, without the metrics, which are updated after it."""
        return tuple(child for child in self.children() if not isinstance(child, MetricCollection))

    def shared_step(self, batch: Batch, stage: Stage) -> LabelledOutput:
        """Return the loss and the output of a batch, and update the metrics of the epoch."""
        labelled = self.loss_step(batch)
        self.update_metrics(labelled.detached(), stage)
        return labelled

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that is minimized."""
        return self.shared_step(batch, "train").loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure loss and accuracy on validation images."""
        self.shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # type: ignore[override]  # Lightning takes anything
        """Measure loss and accuracy on test images; callbacks see the logits."""
        return self.shared_step(batch, "test").output

    def on_test_start(self) -> None:
        """Keep the memory of a batch for the next one: this halves the time in which a CPU tests DeepNN."""
        if self.device.type == "cpu":
            keep_freed_memory()

    def on_test_end(self) -> None:
        """Return the test's freed memory to the system."""
        return_freed_memory()

    def configure_optimizers(self) -> Any:
        """Create the optimizer of the trained parameters, and its schedule."""
        optimizer = self.optimizer(self.trained_parameters())
        if flattens_weights(optimizer, self.trainer):
            self.network.to(memory_format=torch.contiguous_format)
        scheduler = None if self.lr_scheduler is None else self.lr_scheduler(optimizer)
        self._optimization = described(optimizer, scheduler)
        check_resumed(self._resumed, self._optimization)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule_entry(self, scheduler, self.lr_interval)}

    @property
    def data(self) -> ImageDataModule:
        """The datamodule of the running trainer."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(datamodule, ImageDataModule):
            raise UserError(
                f"{type(self).__name__} needs an ImageDataModule, not {type(datamodule).__name__}; see --data."
            )
        return datamodule

    def setup(self, stage: str) -> None:
        """Check that network and data match, and reset the metrics."""
        check_network(self.network, self.data)
        self.ended = False  # whether a callback has changed the weights when training ended
        if stage == "fit":
            self.start_losses(self.data)
            shape_averages(self)
        for metrics in (self.train_metrics, self.val_metrics, self.test_metrics):
            metrics.reset()  # a run that was stopped may have left something in them

    def plain_network(self) -> Network:
        """Return the network that files contain: the fused one, or the trained one itself."""
        return fused(self.network)

    def model_info(self) -> ModelInfo:
        """Return what a file of the trained network contains besides its weights."""
        return info_of(self.network, self.data)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state, so that a resumed run draws the same dropout as an undisturbed one."""
        self.check_finite()
        self._random.save(checkpoint, self.device)
        checkpoint["optimization"] = self._optimization
        checkpoint[IMAGES_KEY] = self.images
        checkpoint[ENDED_KEY] = self.ended
        checkpoint[INFO_KEY] = replace(self.model_info(), **training_record(self.trainer)).to_plain()
        if is_reparameterized(self.network):  # averaged weights where a callback has put them into the checkpoint
            checkpoint[PLAIN_KEY] = fused_weights(self.network, network_weights(checkpoint["state_dict"]))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other data, another network or another task."""
        path = "this file" if self._trainer is None else check_origin(self, checkpoint)  # as in load_from_checkpoint
        self._random.load(checkpoint)
        self._resumed = checkpoint.get("optimization", {})
        self.match_checkpoint(path, checkpoint, resumes=self._trainer is not None and self.trainer.state.fn == "fit")
        check_weights_fit(self, path, checkpoint)
        self.ended = checkpoint.get(ENDED_KEY, False)

    def on_train_start(self) -> None:
        """Reset the random state to the random seed's or a checkpoint's, and prepare what the first step needs."""
        if self.device.type == "cpu":
            keep_freed_memory()
        check_last_batch(self.network, self.trainer)
        check_length(self.trainer)
        check_callbacks(self)
        start_averages(self)
        self._random.start(self.device)
        self._loss_watch = LossWatch(self.trainer)
        self.set_loss_weights()  # a run that resumes in the middle of an epoch calls no on_train_epoch_start
        self.prepare()
        for function in self._when_ready:
            function()
        self._when_ready = []

    def when_ready(self, function: Callable[[], None]) -> None:
        """Register a function that is called before the first step, when all that steps need is there."""
        self._when_ready.append(function)

    def prepare(self) -> None:
        """Prepare once, before the first step."""

    def host_sync_reason(self) -> str | None:
        """Return, as a clause, which data of a step is in main memory; ``None`` where none is."""
        loader = self.trainer.train_dataloader
        resident = isinstance(loader, BatchLoader) and loader.data.images.device == self.device
        return None if resident else "the images do not fit on the GPU"

    def on_train_end(self) -> None:
        """Refuse weights that are not finite, and return freed memory to the system."""
        self.check_finite()
        self._loss_watch = None  # it refers to the trainer, and some callbacks copy the task without it
        return_freed_memory()

    def on_fit_end(self) -> None:
        """Apply the end of training to a fit that has nothing left to train."""
        end_training(self)
