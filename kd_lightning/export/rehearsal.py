"""Check before training that the export after it will work."""

import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from inspect import getsource
from pathlib import Path

import onnx
import onnxruntime
import torch

from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.export.build import Builder
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.settings import ExportSettings
from kd_lightning.export.speed import noise
from kd_lightning.export.verify import Variant, normalized_batches, torch_reference
from kd_lightning.files import cache_folder
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network
from kd_lightning.sources import own_modules

DONE = "rehearsed-exports"
"""The folder with an empty file for each rehearsal that succeeded, so that concurrent processes lose none."""


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
    code, caches = _code(network), cache_folder()
    if code is None or caches is None:
        _rehearse(network, info, variants, settings)
        return
    versions = [library.__version__ for library in (torch, onnx, onnxruntime)]
    reduces_range = settings.quantization.reduces_range
    done = caches / DONE / digest(network, info, sorted(variants), settings, reduces_range, *versions, *code)
    if not done.exists():
        _rehearse(network, info, variants, settings)
        with suppress(OSError):  # without a cache that can be written it is rehearsed every time
            done.parent.mkdir(exist_ok=True)
            done.touch()


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


def _code(network: Network) -> list[str] | None:
    """Return the code that an export depends on: the exporter's, the layers' and the user's own modules.

    It is ``None`` where a part is unknown: typed in, compiled, or installed under another name.
    """
    names = {kind.__module__ for layer in network.modules() for kind in type(layer).__mro__}
    names = {name for name in names if name.partition(".")[0] not in {"torch", *sys.stdlib_module_names}}
    try:
        sources = [getsource(sys.modules[name]) for name in sorted(names)]
        own = [f"{name} {path.read_bytes()!r}" for name, path in sorted(own_modules().items())]
        return [version("onnxscript"), *sources, *own]
    except (KeyError, OSError, TypeError, PackageNotFoundError):
        return None
