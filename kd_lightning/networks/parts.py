"""One network's weights in a checkpoint with a student and its teacher, as mdistiller writes it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kd_lightning.errors import UserError

PREFIXES = ("student.", "teacher.")


def fitting_part(
    weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], path: str | Path
) -> dict[str, Tensor]:
    """Return the student's or the teacher's weights, whichever fits a network; all weights where neither does.

    Args:
        weights: A file's state dict.
        shapes: The names and shapes of the network's weights.
        path: The file, for messages.

    Raises:
        UserError: Both fit, and they differ.
    """
    parts = [
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        for prefix in PREFIXES
    ]
    fitting = [part for part in parts if {name: value.shape for name, value in part.items()} == shapes]
    if len(fitting) == 2 and any(not torch.equal(fitting[0][name], fitting[1][name]) for name in shapes):
        raise UserError(
            f"{path} holds a student and a teacher, which both fit this network; give the file of one of them, such as "
            "mdistiller's student_best."
        )
    return fitting[0] if fitting else dict(weights)
