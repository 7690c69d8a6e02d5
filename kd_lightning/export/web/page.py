"""Write the page: ``index.html`` and, beside it, the networks and the runtime as scripts.

The binaries are scripts (gzip, then base64) because a browser reads no other file for a page that is opened with a
double click; the runtime shrinks to a third.
"""

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from kd_lightning import pages
from kd_lightning.errors import UserError
from kd_lightning.export.web.runtime import MODULE, runtime_files
from kd_lightning.files import atomic_write
from kd_lightning.inference.images import MAX_PIXELS, Pixels
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import factor_and_offset

NAMED_CLASSES = 12  # more are not named
TITLES = {"static": "int8", "dynamic": "int8 (linear layers)"}
"""What a reader calls a variant, where it is not its name."""

ROOM = "kd_lightning.export.web"


class Example(NamedTuple):
    """An image that the page offers to try, pixels (S, S, C), and the name of its class."""

    pixels: Pixels
    class_name: str


def write_web_page(
    folder: Path,
    files: Mapping[str, Path],
    info: ModelInfo,
    *,
    examples: Sequence[Example] = (),
    runtime: Path | None = None,
) -> Path:
    """Write a page that classifies the reader's images with each of ``files``; return its ``index.html``.

    Any web server can serve the folder, and a double click on ``index.html`` opens it too.

    Args:
        folder: The folder to write ``index.html``, ``networks.js`` and ``runtime.js`` to.
        files: Files that ``kd-lightning export`` wrote by their variant, such as ``fp32`` and ``static``, which the
            page calls int8; the others are compared with the first.
        info: Metadata of the files.
        examples: Test images to try.
        runtime: An unpacked onnxruntime-web package; without it npm downloads one.

    Raises:
        UserError: A file is missing, the runtime cannot be downloaded, or the folder cannot be written to.
    """
    networks = {TITLES.get(name, name): _read(path) for name, path in files.items()}
    found = runtime_files(runtime)
    banner = found[MODULE].decode().partition("*/")[0] + "*/\n"  # the licence
    _write(folder / "runtime.js", banner + _script("RUNTIME", found))
    _write(folder / "networks.js", _script("NETWORKS", networks))
    sizes = {name: len(content) for name, content in networks.items()}
    page = folder / "index.html"
    _write(page, _page(info, _about(info, sizes, examples)))
    return page


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; make it with `kd-lightning export`.") from error


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _script(name: str, contents: Mapping[str, bytes]) -> str:
    packed = {key: base64.b64encode(gzip.compress(content, mtime=0)).decode() for key, content in contents.items()}
    return f"globalThis.{name} = {json.dumps(packed)};\n"


def _about(info: ModelInfo, sizes: Mapping[str, int], examples: Sequence[Example]) -> dict[str, Any]:
    """Return the values that the page's script reads."""
    factor, offset = factor_and_offset(info)
    return {
        "classes": info.class_names,
        "size": info.image_size,
        "channels": info.in_channels,
        "maxPixels": MAX_PIXELS,
        "factor": factor.tolist(),
        "offset": offset.tolist(),
        "bytes": sizes,
        "examples": [{"truth": class_name, "png": _png(pixels)} for pixels, class_name in examples],
    }


def _png(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _page(info: ModelInfo, about: Mapping[str, Any]) -> str:
    network = info.network.rpartition(".")[2]
    accuracy = "" if info.accuracy is None else f"{100 * info.accuracy:.1f} % of test images right"
    facts = (network, info.data, accuracy, f"sees {info.image_size} by {info.image_size} pixels")
    return pages.page(
        ROOM,
        f"{network} on {info.data}" if info.data else network,
        policy="script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        facts=escape(" · ".join(filter(None, facts))),
        classes=escape(_classes(info.class_names)),
        about=json.dumps(about, allow_nan=False).replace("<", "\\u003c"),
        script=pages.script(ROOM, ("pixels.js", "network.js", "page.js")),
    )


def _classes(names: Sequence[str]) -> str:
    more = len(names) - NAMED_CLASSES
    return ", ".join(names[:NAMED_CLASSES]) + (f" and {more} more" if more > 0 else "")
