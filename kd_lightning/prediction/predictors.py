"""Open a model file for prediction, by its ending: ``.onnx`` with onnxruntime, anything else with torch."""

from pathlib import Path

from kd_lightning.data.published import local_file
from kd_lightning.errors import UserError
from kd_lightning.inference.onnx_predictor import OnnxPredictor, Predictor

BEYOND = "has values outside of the range of the training images, which were clipped"
"""The warning about an image."""


def is_onnx(path: str | Path) -> bool:
    """Return whether a model file is for onnxruntime."""
    return Path(path).suffix.lower() == ".onnx"


def open_predictor(path: str | Path, threads: int = 0, network: str | None = None) -> Predictor:
    """Open a model file.

    Args:
        path: An ``.onnx``, ``.pth``, ``.safetensors`` or ``.ckpt``, or a bare state dict of ``DeepNN`` or ``LightNN``;
            its path, or ``https://HOST/FILE#sha256=CHECKSUM``.
        threads: CPU threads for the network; 0 leaves the number to onnxruntime or torch.
        network: Import path of the network's class, where it is one of the user's own.

    Raises:
        UserError: The file is missing or damaged, is for an unknown network, or needs torch where it is not installed.
    """
    path = local_file(path)
    if is_onnx(path) and network is not None:
        raise UserError(f"--network {network} is for files of weights, but {path} holds its network; leave it out.")
    if is_onnx(path):
        # without spinning: these cores decode the next images
        return OnnxPredictor(path, threads=threads, spin=False, bounded=True)
    try:
        from kd_lightning.prediction.torch_predictor import TorchPredictor  # torch takes seconds to import
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(f"{path} needs torch, which is not installed; give the run's .onnx file.") from error
    return TorchPredictor(path, threads=threads, network=network)
