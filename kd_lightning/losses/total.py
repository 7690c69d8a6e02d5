"""The weighted sum of named losses: what a task minimizes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from math import nan
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError, require_object
from kd_lightning.losses.base import Loss, Targets
from kd_lightning.networks.base import Network
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch

CALL = '{"labels": CrossEntropy(), "kd": SoftTargets(temperature=4)}'
"""An example of losses."""

TeacherShapes = Shapes | Callable[[str], Shapes]
"""The shapes of what losses see of a teacher; or a function that returns those of a loss's teacher by its name."""

UNKNOWN: Targets = {}
"""The target, by identity, of a loss whose teacher has no outputs for a batch's images."""

TAKEN = ("loss", "accuracy", "teacher_accuracy", "teacher_agreement")
"""Names under which a task logs other values."""


Watch = Callable[[Mapping[str, Targets], Mapping[str, Tensor]], None]


def check_losses(losses: object) -> None:
    """Refuse what is not a dict of losses, in Python.

    Raises:
        UserError: It is a list or one loss, or one of its values is a class or a name.
    """
    if not isinstance(losses, Mapping):
        raise UserError(f"losses is a {type(losses).__name__}, but each loss needs a name: {CALL}.")
    for name, loss in losses.items():
        require_object(f"the loss '{name}'", loss, Loss, CALL)


class LossSum(nn.ModuleDict):
    """The weighted sum of named losses, in pure torch.

    Args:
        losses: The losses by name.
        student: The shape of each of the student's layers, and of its logits.
        teacher: The same of the teacher, or by the loss's name of its teacher; ``None`` without one.

    Attributes:
        named: The losses by name. Keys of the state dict are the names, with ``-loss`` where a module has an attribute
            of that name.

    Raises:
        UserError: There is no loss, a name cannot be logged, or a loss does not fit the shapes.
    """

    def __init__(self, losses: Mapping[str, Loss], student: Shapes, teacher: TeacherShapes | None = None) -> None:
        super().__init__()
        _check_names(losses)
        self.named = dict(losses)
        self._is_checked = False
        self._watch: Watch | None = None
        for name, loss in losses.items():
            with of_loss(name):
                loss.build(student, teacher(name) if callable(teacher) else teacher)
            self[f"{name}-loss" if hasattr(self, name) else name] = loss

    def attach(self, student: Network, teacher_of: Callable[[str], tuple[Network, Tensor | None]]) -> None:
        """Show the networks to the losses that read layers of a teacher; see ``Loss.attach``.

        Args:
            student: The student.
            teacher_of: Returns the network of a loss's teacher by the loss's name, and its order of the classes.
        """
        for name, loss in self.named.items():
            if loss.teacher_layers:
                with of_loss(name):
                    loss.attach(student, *teacher_of(name))

    def start(self, images: int, labels: Tensor | None) -> None:
        """Create what the losses keep of each image; see ``Loss.start``."""
        for name, loss in self.named.items():
            with of_loss(name):
                loss.start(images, labels)

    def watch_first(self, watch: Watch) -> None:
        """Call a function once, in the next training step, with the losses' targets and values."""
        self._watch = watch

    def set_epoch(self, epoch: int | None) -> None:
        """Set the weights of an epoch, counted from 0; ``None``: the weights after all warm-ups."""
        for loss in self.named.values():
            loss.set_epoch(loss.warm_up if epoch is None else epoch)

    def forward(
        self, student: Outputs, targets: Mapping[str, Targets], batch: "Batch"
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each loss by its name, without its weight.

        A loss whose target is ``UNKNOWN`` is left out, and the sum is then not a number.

        Args:
            student: The student's outputs.
            targets: What each loss's ``teacher_target`` returned for the same images; empty without a teacher.
            batch: Images, labels and rows.

        Raises:
            UserError: In the first step, a loss is not a scalar with a gradient, or changes what others see.
        """
        values, is_training = dict[str, Tensor](), torch.is_grad_enabled()
        shared = [] if self._is_checked or not is_training else _shared(student, targets, batch)
        for name, loss in self.named.items():
            if (target := targets.get(name, {})) is UNKNOWN:
                continue
            seen = student.only(loss.student_layers), target, batch
            with nullcontext() if self._is_checked or loss.sees_labelled else _of_unlabelled(name, loss, batch):
                values[name] = loss(*labelled(*seen)) if loss.sees_labelled else loss(*seen)
            if not self._is_checked:
                _check_value(name, loss, values[name])
                _check_unchanged(name, shared)
        if is_training and self._watch is not None:
            self._watch(targets, values)
            self._watch = None
        self._is_checked |= is_training
        is_whole = len(values) == len(self.named)
        return self.weighted(values) if is_whole else student.logits.new_full((), nan), values

    def weighted(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of losses by name, a scalar."""
        return torch.stack([self.named[name].weight * value for name, value in values.items()]).sum()


def labelled(student: Outputs, target: Targets, batch: "Batch") -> tuple[Outputs, Targets, "Batch"]:
    """Return what a loss sees of a batch, without its unlabelled images, which are the last."""
    count = len(batch.labels)
    if count == len(batch.images):
        return student, target, batch
    maps, target = ({name: values[:count] for name, values in parts.items()} for parts in (student.maps, target))
    views = None if batch.views is None else batch.views[:count]
    rest = batch._replace(images=batch.images[:count], rows=batch.rows[:count], views=views)
    return Outputs(student.logits[:count], maps), target, rest


@contextmanager
def of_loss(name: str) -> Iterator[None]:
    """Prefix a ``UserError`` in the block with the loss it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the loss '{name}': {error}") from None


@contextmanager
def _of_unlabelled(name: str, loss: Loss, batch: "Batch") -> Iterator[None]:
    """Explain what a loss raises that has read the labels of a batch of which some have none."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if len(batch.labels) == len(batch.images):
            raise
        raise UserError(
            f"the loss '{name}' ({type(loss).__name__}) fails on a batch of {len(batch.images)} images of which the "
            f"first {len(batch.labels)} have labels ({_first_line(error)}); if it reads labels, set needs_labels = "
            "True in its class."
        ) from error


def _check_names(losses: Mapping[str, Loss]) -> None:
    if not losses:
        raise UserError("a task needs at least one loss; name one in model.losses, such as `labels: CrossEntropy`.")
    for name in losses:
        if name in TAKEN or not name.isidentifier():
            raise UserError(
                f"a loss is called '{name}'; give it a name of letters, digits and _ other than {', '.join(TAKEN)}."
            )


def _check_value(name: str, loss: Loss, value: object) -> None:
    """Refuse a value that cannot be a term of the minimized sum; a term of weight 0 needs no gradient."""
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        fix = "return a mean, as by `.mean()`, without `.item()`"
    elif torch.is_grad_enabled() and not value.requires_grad and loss.full_weight:
        found, fix = "a value without a gradient", "compute it from what is trained, or give it a weight of 0"
    else:
        return
    raise UserError(f"the loss '{name}' ({type(loss).__name__}) gives {found}, but must give a scalar tensor; {fix}.")


def _shared(student: Outputs, targets: Mapping[str, Targets], batch: "Batch") -> list[tuple[str, Tensor, int]]:
    """Return the tensors that several losses read, with their names and version counters."""
    found = [("the images", batch.images), ("the labels", batch.labels), ("the rows", batch.rows)]
    found += [("the student's logits", student.logits)]
    found += [(f"the student's '{layer}'", values) for layer, values in student.maps.items()]
    found += [(f"the teacher's '{key}'", values) for own in targets.values() for key, values in own.items()]
    return [(what, values, values._version) for what, values in found]


def _check_unchanged(name: str, shared: list[tuple[str, Tensor, int]]) -> None:
    for what, values, version in shared:
        if values._version != version:
            raise UserError(
                f"the loss '{name}' changes {what} in place, which other losses see, too; let it work on a copy, as "
                "by `.clone()`."
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
