"""The speed of exported files on this machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import OnnxPredictor, Pixels
from kd_lightning.machine.cpu import cores

ROUNDS = 9
LARGE_BATCH = 64
Rounds = list[list[float]]  # the seconds of every call, by round
SECONDS = 0.05  # a round of one file at one batch size takes this long, or two calls


@dataclass(frozen=True)
class Speed:
    """Speed of one file, normalization included.

    Attributes:
        median_ms: Median time of one image, in milliseconds.
        p95_ms: 95th percentile of that time.
        images_per_second: Throughput at batches of 64: median over rounds of the fastest batch.
        ratio: How many times as fast as fp32 for one image: median over rounds, in which the files take turns in one
            process, of the ratio of the fastest calls.
        batch_ratio: The same at batches of 64.
    """

    median_ms: float
    p95_ms: float
    images_per_second: float
    ratio: float
    batch_ratio: float


def measure_speeds(files: Mapping[str, Path], base: str, info: ModelInfo) -> dict[str, Speed]:
    """Time the files in turns, so that other work on the machine affects all of them alike.

    Args:
        files: The files to time.
        base: The file that the others are compared with.
        info: Size and channels of the images.
    """
    predictors = {name: OnnxPredictor(path, threads=cores()) for name, path in files.items()}
    single, batch = _rounds(predictors, noise(info, 1)), _rounds(predictors, noise(info, LARGE_BATCH))
    return {name: _speed((single[name], single[base]), (batch[name], batch[base])) for name in files}


def _speed(single: tuple[Rounds, Rounds], batch: tuple[Rounds, Rounds]) -> Speed:
    """Summarize the rounds of a file in comparison with those of the base."""
    times = np.concatenate(single[0])
    return Speed(
        median_ms=1000 * float(np.median(times)),
        p95_ms=1000 * float(np.percentile(times, 95)),
        images_per_second=LARGE_BATCH / median(map(min, batch[0])),
        ratio=_ratio(*single),
        batch_ratio=_ratio(*batch),
    )


def _rounds(predictors: Mapping[str, OnnxPredictor], images: Pixels) -> dict[str, Rounds]:
    """Time every file once a round."""
    times: dict[str, Rounds] = {name: [] for name in predictors}
    for _ in range(ROUNDS):
        for name, predictor in predictors.items():
            _seconds(predictor, images)  # the first call still shares the cores with the threads of the file before
            times[name].append(_round(predictor, images))
    return times


def _round(predictor: OnnxPredictor, images: Pixels) -> list[float]:
    times = [_seconds(predictor, images)]
    while len(times) < 2 or sum(times) < SECONDS:
        times.append(_seconds(predictor, images))
    return times


def _seconds(predictor: OnnxPredictor, images: Pixels) -> float:
    start = time.perf_counter()
    predictor.outputs(images)
    return time.perf_counter() - start


def _ratio(rounds: Rounds, base: Rounds) -> float:
    """Compare the fastest calls, which other work on the machine disturbs least."""
    return median(min(slow) / min(fast) for fast, slow in zip(rounds, base, strict=True))


def noise(info: ModelInfo, count: int) -> Pixels:
    """Return images of noise, (N, S, S, C), always the same."""
    shape = (count, info.image_size, info.image_size, info.in_channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
