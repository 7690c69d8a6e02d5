"""Pictures of a test: the confusion matrix, and the most confident mistakes."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from kd_lightning.wording import shown

MAX_NAME = 22
"""The most characters of a class's name."""

MAX_NUMBERS = 25
"""The most classes whose matrix has numbers in its cells."""

COLUMNS = 6
"""Images beside each other."""

TILE, GAP, CAPTION, HEAD = 1.7, 0.2, 0.7, 0.4
"""Inches: an image's side, between two of them, below one, and above all."""

GOOD, BAD, SOFT = "#1a7f37", "#cf222e", "#6e7781"

Picture = NDArray[np.uint8]
"""Pixels (H, W, 3)."""


class Mistake(NamedTuple):
    """A wrong prediction.

    Attributes:
        image: Its pixels (H, W, C), uint8.
        true: The name of its class.
        predicted: The name of the predicted class, and its probability in [0, 1].
        teacher: The same of the teacher; ``None`` without one.
    """

    image: Tensor
    true: str
    predicted: tuple[str, float]
    teacher: tuple[str, float] | None


def confusion_picture(counts: Tensor, class_names: Sequence[str]) -> Picture:
    """Draw how often each true class (a row) was predicted as each class (a column).

    Args:
        counts: Test images (num_classes, num_classes), by true and by predicted class.
        class_names: Names in the order of the labels.
    """
    classes, total = len(class_names), int(counts.sum())
    cell = 0.5 if classes <= MAX_NUMBERS else 0.16  # inches
    figure = Figure(figsize=(classes * cell + 2.6, classes * cell + 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow((counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    small = 9 if classes <= MAX_NUMBERS else 7
    names = [_name(name) for name in class_names]
    axes.set_xticks(range(classes), names, rotation=90, fontsize=small, parse_math=False)
    axes.set_yticks(range(classes), names, fontsize=small, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    correct = int(counts.diagonal().sum())
    axes.set_title(f"{correct:,} of {total:,} test images are correct", fontsize=10, loc="left")
    if classes <= MAX_NUMBERS:
        for row, column in counts.nonzero().tolist():
            share = float(counts[row, column] / counts[row].sum())
            colour = "white" if share > 0.3 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    return _pixels(figure)


def mistakes_picture(mistakes: Sequence[Mistake], title: str) -> Picture:
    """Draw wrongly predicted images, each with its class, the prediction and the teacher's.

    Args:
        mistakes: One or more.
        title: The text above them.
    """
    width, height = COLUMNS * (TILE + GAP) + GAP, -(-len(mistakes) // COLUMNS) * (TILE + CAPTION) + HEAD
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # in inches; axes for each image would take most of the time
    axes.text(GAP, height - HEAD / 2, title, fontsize=11, va="center", parse_math=False)
    for number, mistake in enumerate(mistakes):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (TILE + GAP), height - HEAD - row * (TILE + CAPTION)
        image = mistake.image.expand(-1, -1, 3).numpy()
        interpolation = "nearest" if len(image) < 128 else "antialiased"
        axes.imshow(image, extent=(left, left + TILE, top - TILE, top), interpolation=interpolation)
        for line, (text, colour) in enumerate(_caption(mistake)):
            below = top - TILE - 0.06 - line * 0.16
            axes.text(left, below, text, color=colour, fontsize=8, va="top", parse_math=False)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return _pixels(figure)


def _caption(mistake: Mistake) -> list[tuple[str, str]]:
    """Return the lines below an image and their colours; the teacher's is green where it is right."""
    true = _name(mistake.true)
    lines = [(f"true: {true}", "black"), (_said("", mistake.predicted), BAD)]
    if mistake.teacher is not None:
        is_right = mistake.teacher[0] == mistake.true
        lines.append((_said("teacher: ", mistake.teacher), GOOD if is_right else SOFT))
    return lines


def _said(who: str, prediction: tuple[str, float]) -> str:
    return f"{who}{_name(prediction[0])} {prediction[1]:.0%}"


def _name(name: str) -> str:
    name = shown(name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _pixels(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # such a character is drawn as a box
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
