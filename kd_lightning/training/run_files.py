"""The files that every fit writes besides its summary."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch import Callback

from kd_lightning.callbacks import ExportONNX, QuantizeONNX, SaveWeights
from kd_lightning.callbacks.keep_checkpoint import KeepCheckpoint


@dataclass(frozen=True)
class RunFiles:
    """Names of the files in a run's folder, besides checkpoints and summary.

    ``SaveWeights``, ``ExportONNX`` and ``QuantizeONNX`` in ``trainer.callbacks``, which have more options, replace
    the files that are named here.

    Args:
        weights: The weights, a ``.pth``, or a ``.safetensors``, which the Hugging Face hub expects.
        onnx: The network in fp32, a ``.onnx``; ``null`` exports nothing.
        dynamic: The same with int8 weights in its linear layers; ``null`` leaves it out.
        static: The same with int8 throughout, calibrated on training images; ``null`` leaves it out.
    """

    weights: str = "weights.pth"
    onnx: str | None = "ImagePredictor.onnx"
    dynamic: str | None = "ImagePredictorQuantizedFinalized.onnx"
    static: str | None = "ImagePredictorStaticInt8.onnx"

    def callbacks(self, own: Sequence[Callback]) -> list[Callback]:
        """Return the callbacks that write the files, but for those that the config names itself."""
        callbacks: list[Callback] = []
        if not any(isinstance(callback, SaveWeights) for callback in own):
            callbacks.append(SaveWeights(self.weights))
        if self.onnx is None or any(isinstance(callback, ExportONNX | QuantizeONNX) for callback in own):
            return callbacks
        callbacks.append(ExportONNX(self.onnx))
        if self.dynamic is not None:
            callbacks.append(QuantizeONNX(self.dynamic, "dynamic"))
        if self.static is not None:
            callbacks.append(QuantizeONNX(self.static, "static"))
        return callbacks


def checkpoints() -> list[Callback]:
    """Return the callbacks that keep the last epoch, and the best one where there are validation images."""
    return [
        KeepCheckpoint("last", save_on_train_epoch_end=True),
        KeepCheckpoint("best", monitor="val/accuracy", mode="max"),
    ]
