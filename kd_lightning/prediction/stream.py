"""Predict any number of image files, in their order, with two batches of them in memory."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kd_lightning.inference.images import BrokenImageError, Pixels
from kd_lightning.inference.onnx_predictor import Floats, Predictor

MAX_PIXELS = 2**25
"""Pixels of a batch, of all channels: 134 MB as the network sees them."""

Decoded = list[Pixels | BrokenImageError]


@dataclass(frozen=True)
class Prediction:
    """The network's prediction for an image.

    Attributes:
        image: The file, as it was named.
        probabilities: Of each class, (K,), in the order of ``class_names``.
        class_names: Names of the classes.
    """

    image: str
    probabilities: Floats
    class_names: tuple[str, ...]

    def best(self, count: int) -> list[tuple[str, float]]:
        """Return the ``count`` likeliest classes with their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]


def predict_files(
    predictor: Predictor, files: Sequence[str], batch_size: int, threads: int
) -> Generator[Prediction | BrokenImageError, None, None]:
    """Yield the prediction for each file, in order; for a broken one, its error.

    While a batch goes through the network, the next one is decoded.

    Args:
        predictor: The opened model.
        files: Names of image files.
        batch_size: Images that go through the network at once, 1 or more; fewer where they are very large.
        threads: Threads that decode, 1 or more.
    """
    batch_size = max(1, min(batch_size, MAX_PIXELS // (predictor.info.image_size**2 * predictor.info.in_channels)))
    batches = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
    pool = ThreadPoolExecutor(threads)
    try:
        waiting: list[Future[Decoded]] = []
        for names, following in pairwise([[], *batches, []]):
            share = -(-len(following) // threads)  # one task a thread: a task an image costs as much as a small image
            parts = [following[first : first + share] for first in range(0, len(following), share or 1)]
            decoding = [pool.submit(_decode, predictor, part) for part in parts]
            yield from _predict(predictor, names, [item for part in waiting for item in part.result()])
            waiting = decoding
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(predictor: Predictor, names: Sequence[str]) -> Decoded:
    """Return the pixels of each file, or its error."""
    decoded: Decoded = []
    for name in names:
        try:
            decoded.append(predictor.read(Path(name)))
        except BrokenImageError as error:
            decoded.append(error)
    return decoded


def _predict(predictor: Predictor, names: Sequence[str], decoded: Decoded) -> Iterator[Prediction | BrokenImageError]:
    """Yield the results of one batch."""
    images = [item for item in decoded if not isinstance(item, BrokenImageError)]
    rows = iter(predictor.probabilities(np.stack(images)) if images else ())
    for name, item in zip(names, decoded, strict=True):
        if isinstance(item, BrokenImageError):
            yield item
        else:
            yield Prediction(name, next(rows), predictor.info.class_names)
