"""Predict with an exported file: numpy, pillow and onnxruntime are all it needs, neither torch nor Lightning."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from kd_lightning.errors import UserError
from kd_lightning.images import read_image
from kd_lightning.model_info import ModelInfo

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Label(NamedTuple):
    """A class and its probability in [0, 1]."""

    name: str
    probability: float


class OnnxPredictor:
    """Opens a file that ``python -m kd_lightning export`` wrote and gives the probabilities of images.

    Args:
        path: The ``.onnx`` file, with the normalization outside or inside its graph.
        threads: CPU threads; 0 takes one a physical core.
        spin: Whether threads that wait for work keep their cores: faster where nothing else needs these.

    Attributes:
        info: What the file says about itself: class names, mean, standard deviation, image size.
        inside: Whether the normalization and the softmax are in the graph.

    Raises:
        UserError: There is no such file, it is damaged, or it is not one of this project's.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, spin: bool = True) -> None:
        self.session = open_session(Path(path), threads, spin)
        metadata = self.session.get_modelmeta().custom_metadata_map
        try:
            self.info = ModelInfo.from_metadata(metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} names no classes; make it with `python -m kd_lightning export`.") from error
        self.inside = self.session.get_inputs()[0].name == "pixels"
        self._factor, self._offset = factor_and_offset(self.info)

    def outputs(self, images: Pixels) -> Floats:
        """Return what the graph gives for images (B, S, S, C): logits, or probabilities where ``inside``; (B, K)."""
        feed = images if self.inside else self._normalized(images)
        return self.session.run(None, {self.session.get_inputs()[0].name: feed})[0]  # type: ignore[no-any-return]

    def probabilities(self, images: Pixels) -> Floats:
        """Return the probabilities (B, K) of images (B, S, S, C), uint8."""
        outputs = self.outputs(images)
        return outputs if self.inside else softmax(outputs)

    def labels(self, images: Pixels, top: int = 1) -> list[list[Label]]:
        """Return for each of the images (B, S, S, C) its ``top`` likeliest classes, the likeliest first."""
        probabilities = self.probabilities(images)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [Label(self.info.class_names[index], float(row[index])) for index in best]
            for row, best in zip(probabilities, order, strict=True)
        ]

    def read(self, path: Path) -> Pixels:
        """Return the pixels (S, S, C) of an image file, as this network was trained to see them."""
        return read_image(path, self.info.image_size, self.info.in_channels)

    def _normalized(self, images: Pixels) -> Floats:
        channels_first = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")  # (B, S, S, C) -> (B, C, S, S)
        channels_first *= self._factor[:, None, None]
        channels_first += self._offset[:, None, None]
        return channels_first


def open_session(path: Path, threads: int = 0, spin: bool = True) -> onnxruntime.InferenceSession:
    """Open ``path`` on the CPU; raise ``UserError`` where it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; make one with `python -m kd_lightning export`.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no narrower base
        newer = f"or needs a newer onnxruntime than {onnxruntime.__version__}"
        raise UserError(f"{path} is damaged {newer}; export it again with `python -m kd_lightning export`.") from error


def factor_and_offset(info: ModelInfo) -> tuple[Floats, Floats]:
    """Return what normalizes pixels in [0, 255] in each channel: ``pixels * factor + offset``, as training does it."""
    mean, std = np.array(info.mean), np.array(info.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def softmax(logits: Floats) -> Floats:
    """Return the probabilities (B, K) of logits (B, K)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
