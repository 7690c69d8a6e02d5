"""What a row's network costs as an ONNX file: measured at the end, side by side, when nothing else runs."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kd_lightning.compare.store import read_run, weights_file, write_run
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.speed import measure_speeds
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.weights import load_model


def add_costs(results: Mapping[str, Path]) -> dict[str, str]:
    """Export a run of each row, and add the file's size and latency to what is kept of the run.

    Args:
        results: A row's name to the file of one of its runs.

    Returns:
        Why a row could not be exported, by its name.
    """
    if all(read_run(path).latency_ms is not None for path in results.values()):
        return {}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for number, (name, result) in enumerate(results.items()):
            try:
                network, info = load_model(weights_file(result))
                export_onnx(network, info, Path(folder, f"{number}.onnx"))
                files[name] = Path(folder, f"{number}.onnx")
            except UserError as error:
                failures[name] = str(error)
        if files:
            _measure(files, results, info)
    return failures


def _measure(files: Mapping[str, Path], results: Mapping[str, Path], info: ModelInfo) -> None:
    speeds = measure_speeds(files, next(iter(files)), info)
    for name, file in files.items():
        run = replace(read_run(results[name]), onnx_bytes=file.stat().st_size, latency_ms=speeds[name].median_ms)
        write_run(run, results[name])
