"""The table of predictions in the terminal, printed line by line."""

import os
import shutil
import sys
from collections.abc import Sequence

from kd_lightning.prediction.stream import Prediction
from kd_lightning.wording import shown

GAP = "  "
MIN_NAME = 20  # columns of the image's name that are kept in a narrow terminal


class Table:
    """Prints a line for each prediction, in columns of fixed width.

    Args:
        files: All images that will come.
        class_names: Names of the classes.
        top: Classes of an image that are shown, 1 or more.
        threshold: Probability in [0, 1] below which the line prints "not sure".
    """

    def __init__(self, files: Sequence[str], class_names: Sequence[str], top: int, threshold: float) -> None:
        self._top, self._threshold = min(top, len(class_names)), threshold
        self._class = max(len(shown(name)) for name in class_names)
        self._label = max(self._class, len("label")) if not threshold else self._class + len("not sure ()")
        self._image = self._image_width(files)
        self._started = False

    def show(self, prediction: Prediction) -> None:
        """Print the line of a prediction."""
        if not self._started:
            self._started = True
            followers = ["runner-up", *["then"] * (self._top - 2)][: self._top - 1]
            self._print("image", "label", "probability", [f"{name:{self._follower}}" for name in followers])
        (label, probability), *others = prediction.best(self._top)
        label = shown(label)
        label = label if probability >= self._threshold else f"not sure ({label})"
        followers = [f"{shown(name):{self._class}} {percent(share)}" for name, share in others]
        self._print(self._cut(shown(prediction.image)), label, percent(probability), followers)

    @property
    def _follower(self) -> int:
        return self._class + len(" 100.0 %")

    def _image_width(self, files: Sequence[str]) -> int:
        longest = max(len("image"), *(len(shown(name)) for name in files))
        if not sys.stdout.isatty():
            return longest
        others = self._label + len("probability") + (self._top - 1) * (self._follower + len(GAP)) + 2 * len(GAP)
        return min(longest, max(MIN_NAME, shutil.get_terminal_size().columns - others))

    def _cut(self, name: str) -> str:
        return name if len(name) <= self._image else "…" + name[len(name) - self._image + 1 :]

    def _print(self, image: str, label: str, probability: str, followers: list[str]) -> None:
        cells = [f"{image:{self._image}}", f"{label:{self._label}}", f"{probability:>11}", *followers]
        try:
            print(GAP.join(cells).rstrip(), flush=True)
        except BrokenPipeError:  # as in `predict ... | head`: the reader has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # the status of a process that SIGPIPE ended


def percent(probability: float) -> str:
    """Return a probability as a percentage of constant width."""
    return f"{100 * probability:5.1f} %"
