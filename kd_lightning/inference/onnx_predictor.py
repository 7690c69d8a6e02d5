"""Predict with an exported file: numpy, pillow and onnxruntime are all it needs, neither torch nor Lightning."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from kd_lightning.errors import UserError
from kd_lightning.inference.images import read_image
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.wording import shown

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

MAX_MEMORY = 2**31
"""Bytes that bounded sessions may take."""


class Predictor(ABC):
    """A model file that is open for prediction.

    Attributes:
        path: The file.
        info: The file's metadata: class names, mean, standard deviation, image size.
        clipped: The images that were read with values outside of the range of the training images.
    """

    def __init__(self, path: str | Path, info: ModelInfo) -> None:
        self.path, self.info = path, info
        self.clipped: set[str] = set()

    @abstractmethod
    def probabilities(self, images: Pixels) -> Floats:
        """Return the probabilities (B, K) of images (B, S, S, C), uint8.

        Raises:
            UserError: The network fails, or its outputs are not finite.
        """

    def read(self, path: Path) -> Pixels:
        """Return the pixels (S, S, C), uint8, of an image file, resized and scaled as in training."""
        return read_image(path, self.info.image_size, self.info.in_channels, self.info.pixel_range, self.clipped)


class OnnxPredictor(Predictor):
    """Opens a file that ``kd-lightning export`` wrote and gives the probabilities of images.

    Args:
        path: The ``.onnx`` file, with the normalization outside or inside its graph.
        threads: CPU threads; 0 takes one a physical core.
        spin: Whether threads that wait for work keep their cores: faster where nothing else needs these.
        bounded: Whether the graph may take no more than 2 GiB when it runs: an untrusted file can request any amount.

    Attributes:
        inside: Whether the normalization and the softmax are in the graph.

    Raises:
        UserError: The file is missing, damaged, not one of this project's, or its metadata contradict its graph.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, spin: bool = True, bounded: bool = False) -> None:
        self.session = open_session(Path(path), threads, spin, bounded)
        try:
            super().__init__(path, ModelInfo.from_metadata(self.session.get_modelmeta().custom_metadata_map))
            self._input, self.inside = _checked(self.session, self.info)
        except KeyError as error:
            raise UserError(f"{path} names no classes; make it with `kd-lightning export`.") from error
        except (TypeError, ValueError, IndexError) as error:  # a UnicodeDecodeError is a ValueError
            raise UserError(
                f"the metadata of {path} cannot be right ({shown(error)}); export it again with `kd-lightning export`."
            ) from error
        self._factor, self._offset = factor_and_offset(self.info)

    def outputs(self, images: Pixels) -> Floats:
        """Return the graph's outputs for images (B, S, S, C): logits, or probabilities where ``inside``; (B, K)."""
        feed = images if self.inside else self._normalized(images)
        try:
            outputs: Floats = self.session.run(None, {self._input: feed})[0]
        except Exception as error:  # onnxruntime's errors share no narrower base
            raise UserError(f"{self.path} fails at {len(images)} images ({shown(error)}); export it again.") from error
        if outputs.shape != (len(images), len(self.info.class_names)):
            raise UserError(
                f"{self.path} gives outputs of shape {outputs.shape} for {len(images)} images and "
                f"{len(self.info.class_names)} classes; export it again with `kd-lightning export`."
            )
        return outputs

    def probabilities(self, images: Pixels) -> Floats:
        """Return the probabilities (B, K) of images (B, S, S, C), uint8."""
        outputs = self.outputs(images)
        if not np.isfinite(outputs).all():
            raise UserError(f"{self.path} gives values that are not finite; train and export it again.")
        return outputs if self.inside else softmax(outputs)

    def _normalized(self, images: Pixels) -> Floats:
        channels_first = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")  # (B, S, S, C) -> (B, C, S, S)
        channels_first *= self._factor[:, None, None]
        channels_first += self._offset[:, None, None]
        return channels_first


def open_session(
    path: Path, threads: int = 0, spin: bool = True, bounded: bool = False
) -> onnxruntime.InferenceSession:
    """Open ``path`` on the CPU; raise ``UserError`` where it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; make one with `kd-lightning export`.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.log_severity_level = 4  # errors are raised as well
    if bounded:
        _limit_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no narrower base
        newer = f"or needs a newer onnxruntime than {onnxruntime.__version__}"
        raise UserError(f"{path} is damaged {newer}; export it again with `kd-lightning export`.") from error


def _checked(session: onnxruntime.InferenceSession, info: ModelInfo) -> tuple[str, bool]:
    """Return the input's name and whether it takes pixels; raise ``ValueError`` where a graph contradicts ``info``."""
    (images,), outputs = session.get_inputs(), session.get_outputs()
    inside, size, channels = images.name == "pixels", info.image_size, info.in_channels
    kind, shape = ("uint8", [size, size, channels]) if inside else ("float", [channels, size, size])
    if images.type != f"tensor({kind})" or not _fits(images.shape, shape):
        raise ValueError(f"it takes {images.type} {images.shape}, not {kind} {['batch', *shape]}")
    if outputs[0].type != "tensor(float)" or not _fits(outputs[0].shape, [len(info.class_names)]):
        raise ValueError(f"it gives {outputs[0].type} {outputs[0].shape} for {len(info.class_names)} classes")
    return images.name, inside


def _fits(found: Sequence[int | str | None], expected: Sequence[int]) -> bool:
    """Return whether the dimensions after the batch are as expected; open ones are checked when the graph runs."""
    return len(found) == 1 + len(expected) and all(
        size == known or not isinstance(size, int) for size, known in zip(found[1:], expected, strict=True)
    )


@cache
def _limit_memory() -> None:
    """Let all bounded sessions of this process share ``MAX_MEMORY``."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": MAX_MEMORY}))


def factor_and_offset(info: ModelInfo) -> tuple[Floats, Floats]:
    """Return each channel's normalization of pixels in [0, 255]: ``pixels * factor + offset``, as training does it."""
    mean, std = np.array(info.mean), np.array(info.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def softmax(logits: Floats) -> Floats:
    """Return the probabilities (B, K) of logits (B, K)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
