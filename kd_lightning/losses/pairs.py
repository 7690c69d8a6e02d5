"""The layers that named losses compare, and their summary with shapes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss
from kd_lightning.losses.layers import LayerLoss
from kd_lightning.losses.logits import LogitLoss
from kd_lightning.losses.projectors import shape_text
from kd_lightning.losses.total import TeacherShapes
from kd_lightning.networks import Network
from kd_lightning.networks.layers import LOGITS, FeatureExtractor, LayerError, Shapes


def feature_extractor(
    network: nn.Module, built: Network, losses: Mapping[str, Loss], layers: Callable[[Loss], Sequence[str]]
) -> FeatureExtractor:
    """Extract the layers that losses read.

    Args:
        network: The model that turns images into logits.
        built: The network that has the layers: the same one, or the one inside it.
        losses: The losses by name.
        layers: Returns the layers of this network that a loss reads.

    Raises:
        UserError: A layer cannot be read (the message names the loss), or the logits do not match the classes.
    """
    wanted = {name: layers(loss) for name, loss in losses.items()}
    try:
        found = FeatureExtractor(network, chain(*wanted.values()), built.layer_root(), built.image_shape)
    except LayerError as error:
        name = next(name for name, needed in wanted.items() if error.layer in needed)
        raise UserError(f"the loss '{name}': {error}") from None
    given, classes = found.shapes[LOGITS][0], built.num_classes
    if given != classes:
        raise UserError(
            f"{found.kind} gives {given} values per image for {classes} classes; build its last layer with "
            f"{classes} outputs (num_classes is passed to a constructor that takes it)."
        )
    return found


def connect_heads(network: Network, losses: Mapping[str, Loss]) -> None:
    """Let losses on a teacher's logits train the network's distillation head, if it has one, and labels the other."""
    head = network.distillation_head
    on_logits = [loss for loss in losses.values() if isinstance(loss, LogitLoss)]
    for loss in on_logits:
        loss.student_layers = () if head is None else (head,)
    network.separate_heads = head is not None and bool(on_logits)


def pair_lines(losses: Mapping[str, Loss], student: Shapes, teacher: TeacherShapes) -> list[str]:
    """Return a line with the shapes of each pair of layers that a loss compares; a loss's last line has its parameters.

    A weight that depends on the number of classes has a line, too.

    Args:
        losses: The losses by name.
        student: The shape of each of the student's layers.
        teacher: The shape of each of the teacher's, or by the loss's name of its teacher's.
    """
    lines = []
    for name, loss in losses.items():
        if isinstance(loss, LogitLoss) and loss.is_auto:
            lines.append(f"{name}: weight {loss.full_weight:g}, for {student[LOGITS][0]} classes")
        of_teacher = teacher(name) if callable(teacher) else teacher
        pairs = [
            f"{name}: {own} {shape_text(student[own])} -> {other} {shape_text(of_teacher[other])}"
            for own, other in zip(loss.student_layers, loss.teacher_layers, strict=False)
        ]
        lines += [*pairs[:-1], *(f"{last}{_trained(loss)}" for last in pairs[-1:])]
    return lines


def _trained(loss: Loss) -> str:
    count = sum(parameter.numel() for parameter in loss.parameters())
    if not count:
        return ""
    kind = f"projector {loss.projection}, " if isinstance(loss, LayerLoss) and loss.projection else ""
    return f", {kind}{count:,} parameters, dropped at export"
