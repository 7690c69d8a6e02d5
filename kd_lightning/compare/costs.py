"""Size and latency of each row's network as an ONNX file, measured at the end, when nothing else runs."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kd_lightning.compare.store import read_run, weights_file, write_run
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.speed import measure_speeds
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.weights import load_model, read_weights


def add_costs(results: Mapping[str, Path], networks: Mapping[str, str]) -> dict[str, str]:
    """Export a run of each row, and add the file's size and latency to the run's results.

    A network that several rows share is measured once.

    Args:
        results: A row's name to the file of one of its runs.
        networks: A row's name to the import path of its network's class.

    Returns:
        Why rows cannot be exported, by their names.
    """
    if all(read_run(path).latency_ms is not None for path in results.values()):
        return {}
    rows_of: dict[str, list[str]] = {}
    for name, result in results.items():
        _, metadata = read_weights(weights_file(result))
        rows_of.setdefault("" if metadata is None else f"{metadata.network} {metadata.arguments}", []).append(name)
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for number, (first, *others) in enumerate(rows_of.values()):
            try:
                network, info = load_model(weights_file(results[first]), networks[first])
                export_onnx(network, info, Path(folder, f"{number}.onnx"))
                files[first] = Path(folder, f"{number}.onnx")
            except UserError as error:
                failures |= dict.fromkeys((first, *others), str(error))
        if files:
            _measure(files, rows_of.values(), results, info)
    return failures


def _measure(
    files: Mapping[str, Path], rows: Iterable[Sequence[str]], results: Mapping[str, Path], info: ModelInfo
) -> None:
    speeds = measure_speeds(files, next(iter(files)), info)
    for first, name in ((same[0], name) for same in rows if same[0] in files for name in same):
        size, latency = files[first].stat().st_size, speeds[first].median_ms
        write_run(replace(read_run(results[name]), onnx_bytes=size, latency_ms=latency), results[name])
