"""The training images that fix the ranges of static quantization."""

import numpy as np
import numpy.typing as npt
import torch

from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats, Pixels

BATCH = 64


def draw_rows(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw rows so that every class has its share to within one image; the same seed draws the same rows.

    Args:
        labels: The classes, (N,).
        count: How many rows to draw; all of them where there are fewer.
        seed: Seed of the draw.

    Raises:
        UserError: There is nothing to draw from.
    """
    if len(labels) == 0 or count < 1:
        raise UserError(f"cannot draw {count} calibration images from {len(labels)}; give 512 or so training images.")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Evenly spaced places in the list sorted by class give every class its share.
    places = np.linspace(0, len(labels), min(count, len(labels)), endpoint=False).astype(np.int64)
    return np.sort(by_class[places])


def normalized_batches(images: Pixels, info: ModelInfo) -> list[Floats]:
    """Return images (N, S, S, C), uint8, as the network sees them: batches (B, C, S, S), float32."""
    normalization = Normalization(info.mean, info.std)
    channels_first = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return [normalization.apply(part).contiguous().numpy() for part in torch.split(channels_first, BATCH)]
