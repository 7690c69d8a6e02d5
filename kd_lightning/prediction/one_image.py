"""Predict one image, as in a loop over files."""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kd_lightning.files import FileState, file_state
from kd_lightning.inference.onnx_predictor import Predictor
from kd_lightning.prediction.predictors import BEYOND, is_onnx, open_predictor
from kd_lightning.wording import shown

if TYPE_CHECKING:
    from torch import Tensor

    from kd_lightning.inference.onnx_predictor import Floats


def predict_image(image_path: str | Path, model_path: str | Path) -> "tuple[str, Tensor | Floats]":
    """Predict the class of one image; the opened model is cached for the next call.

    Args:
        image_path: The image file.
        model_path: An ``.onnx``, ``.pth``, ``.safetensors`` or ``.ckpt``, or a bare state dict of ``DeepNN`` or
            ``LightNN``.

    Returns:
        The name of the likeliest class, and the probabilities of all classes, (K,), in the order of the network's
        classes: a tensor, or with an ``.onnx`` a NumPy array, without loading torch.

    Raises:
        UserError: The image or the model cannot be read.
    """
    predictor = _cached_predictor(str(model_path), file_state(model_path))
    probabilities = predictor.probabilities(predictor.read(Path(image_path))[None])[0]
    if predictor.clipped:
        warnings.warn(f"{shown(predictor.clipped.pop())} {BEYOND}.", stacklevel=2)
    label = predictor.info.class_names[int(probabilities.argmax())]
    if is_onnx(predictor.path):
        return label, probabilities
    import torch

    return label, torch.from_numpy(probabilities)


@lru_cache(maxsize=4)
def _cached_predictor(path: str, _: FileState | None) -> Predictor:
    """Open a model file; open it again only where its state has changed."""
    return open_predictor(path)
