"""The objective of a task: the weighted sum of named losses."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import Loss
from kd_lightning.losses.pairs import feature_extractor
from kd_lightning.losses.total import LossSum
from kd_lightning.networks import Network
from kd_lightning.networks.layers import Shapes
from kd_lightning.tasks.epoch_metrics import MetricsModule
from kd_lightning.tasks.step_output import StepOutput

IMAGES_KEY = "images"
"""Key under which checkpoints keep the number of images that the losses were trained on."""


class Objective(MetricsModule):
    """A network and named losses on its outputs.

    Args:
        network: The network to train.
        losses: The losses by name.
        teacher_shapes: The shapes of what the losses see of a teacher; ``None`` where there is none.

    Attributes:
        images: Images in the data set that the losses are trained on; 0 before it is known.
    """

    def __init__(self, network: Network, losses: dict[str, Loss], teacher_shapes: Shapes | None = None) -> None:
        if not any(values.requires_grad for values in network.parameters()):
            raise UserError(f"{type(network.layer_root()).__name__} has no parameters to train; give another network.")
        extractor = feature_extractor(network, network, losses, lambda loss: loss.student_layers)
        total = LossSum(losses, extractor.shapes, teacher_shapes)
        super().__init__(network, losses)
        self.extractor = extractor
        self.losses = total
        self.images = 0

    def model_step(self, batch: Batch) -> StepOutput:
        """Return the logits and the losses of a batch."""
        student = self.extractor(batch.images)
        return StepOutput(student.logits, self.losses(student, {}, batch)[1])

    @property
    def named_losses(self) -> dict[str, Loss]:
        """The losses by name."""
        return self.losses.named

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the optimizer trains: the network's and those of the losses."""
        yield from self.network.parameters()
        yield from self.losses.parameters()

    def weighted_loss(self, output: StepOutput) -> Tensor:
        """Return the minimized value: the weighted sum of the losses."""
        return self.losses.weighted(output.losses)

    def start_losses(self, data: ImageDataModule) -> None:
        """Tell the losses the number of training images and their labels.

        Raises:
            UserError: The images are mixed, and a loss is undefined for that.
        """
        mixing = ", ".join(type(step).__name__ for step in data.augment if step.mixes_labels)
        for name, loss in self.named_losses.items():
            if loss.needs_hard_labels and mixing:
                raise UserError(
                    f"the loss '{name}' ({type(loss).__name__}) is undefined for mixed images, but --data.augment has "
                    f"{mixing}; leave that out, or use another loss, such as SoftTargets."
                )
        labels = data.train_rows()[0].labels
        self._start(len(labels), labels)

    def match_checkpoint(self, path: str, checkpoint: Mapping[str, Any], resumes: bool) -> None:
        """Size the losses' buffers of each image as in a checkpoint; in training the data has already set the size.

        Args:
            path: The checkpoint's path, for the message.
            checkpoint: What Lightning has read.
            resumes: Whether training resumes from it.

        Raises:
            UserError: Its losses have buffers of each image, and the number of images differs.
        """
        images = checkpoint.get(IMAGES_KEY, 0)
        if not resumes:
            self._start(images, None)
        own, found = self.state_dict(), checkpoint["state_dict"]
        changed = any(key in found and found[key].shape != own[key].shape for key in own if key.startswith("losses."))
        if images != self.images and changed:
            raise UserError(
                f"the losses of {path} keep something of each of {images} images, but the data has {self.images}; give "
                "the images that it was trained on, or start a new run without --ckpt_path."
            )

    def _start(self, images: int, labels: Tensor | None) -> None:
        self.images = images
        self.losses.start(images, labels)

    def on_train_epoch_start(self) -> None:
        """Set the weights that the losses have in this epoch."""
        self.set_loss_weights()

    def on_validation_epoch_start(self) -> None:
        """Set the weights of the losses again, which an average of the task's buffers may have changed."""
        self.set_loss_weights()

    def on_test_epoch_start(self) -> None:
        """Set the full weights of the losses, however long the training was."""
        self.set_loss_weights()

    def set_loss_weights(self) -> None:
        """Set the weight that each loss has in this epoch, or outside of training the one that it warms up to."""
        self.losses.set_epoch(self.current_epoch if self.trainer.state.fn == "fit" else None)
