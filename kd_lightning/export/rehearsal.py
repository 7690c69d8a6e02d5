"""Checks before training that the export after it will work."""

import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from inspect import getmodule, getsource
from pathlib import Path
from types import ModuleType

from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.export.build import Builder
from kd_lightning.export.calibration import normalized_batches
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.settings import ExportSettings
from kd_lightning.export.speed import noise
from kd_lightning.export.verify import Variant, torch_reference
from kd_lightning.files import cache_folder
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network
from kd_lightning.sources import own_modules

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")

DONE = "rehearsed-exports"
"""The folder with an empty file for each rehearsal that succeeded, so that concurrent processes lose none."""

KEPT = 200
"""Successful rehearsals that are recorded."""


def rehearse_export(
    network: Network, info: ModelInfo, variants: Collection[Variant], settings: ExportSettings | None = None
) -> None:
    """Export a network, trained or not, to a temporary folder, on one image of noise: run it before training.

    It takes two seconds. A rehearsal that succeeds is recorded, and is not repeated with the same source of the network
    and of the user's own modules, the same arguments and the same versions of the libraries.

    Args:
        network: The network; it does not change.
        info: What prediction needs.
        variants: The variants that will be exported.
        settings: How they will be exported.

    Raises:
        UserError: The export would fail: the network cannot be translated, or its file differs from torch.
    """
    settings = settings or ExportSettings()
    key, caches = _key(network, info, variants, settings), cache_folder()
    done = None if key is None or caches is None else caches / DONE / key
    with suppress(OSError):  # without a cache it is rehearsed every time
        if done is not None and done.exists():
            return
    _rehearse(network, info, variants, settings)
    with suppress(OSError):
        if done is not None:
            _record(done)


def _rehearse(network: Network, info: ModelInfo, variants: Collection[Variant], settings: ExportSettings) -> None:
    image = noise(info, 1)
    with tempfile.TemporaryDirectory() as folder:
        fp32 = Path(folder, "fp32.onnx")
        export_onnx(network, info, fp32)
        reference = torch_reference(network, info, image, None)
        builder = Builder(fp32, info, settings, normalized_batches(image, info), reference)
        for variant in variants:
            if failure := builder.attempt(variant).failure:
                raise UserError(f"the export of {type(network).__name__} as {variant} would fail: {failure}.")


def _record(done: Path) -> None:
    done.parent.mkdir(exist_ok=True)
    done.touch()
    newest_first = sorted(done.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in newest_first[KEPT:]:
        path.unlink(missing_ok=True)


def _key(network: Network, info: ModelInfo, variants: Collection[Variant], settings: ExportSettings) -> str | None:
    """Return a hash of all that a rehearsal depends on; ``None`` where a part is unknown."""
    kinds = {kind for layer in network.modules() for kind in type(layer).__mro__}
    modules = {module for kind in kinds if (module := getmodule(kind)) is not None and _is_own(module)}
    own = (f"{name} {path.read_bytes()!r}" for name, path in sorted(own_modules().items()))
    try:
        sources = [*sorted(getsource(module) for module in modules), *own]
        versions = [version(library) for library in LIBRARIES]
    except (OSError, TypeError, PackageNotFoundError):  # typed in, compiled, or installed under another name
        return None
    parts = (network, info, sorted(variants), settings, settings.quantization.reduces_range, *sources, *versions)
    return digest("\0".join(map(str, parts)).encode())


def _is_own(module: ModuleType) -> bool:
    """Return whether a module is neither torch's nor Python's."""
    return module.__name__.partition(".")[0] not in {"torch", *sys.stdlib_module_names}
