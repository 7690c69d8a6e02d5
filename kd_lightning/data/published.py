"""Published model files: an address with a checksum stands for a file, which is downloaded once."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from kd_lightning.errors import UserError
from kd_lightning.files import cache_folder
from kd_lightning.wording import shown

MARK = "#sha256="

MAX_BYTES = 2**33
"""The largest classifiers of timm have half of it."""

REMEDY = "choose another with XDG_CACHE_HOME"

WAYS_OUT = ("download it by other means, and give its path in place of the address",)


def is_address(path: str | Path) -> bool:
    """Return whether a model file is named by an http or https address."""
    return str(path).startswith(("http://", "https://"))


def local_file(path: str | Path) -> Path:
    """Return the path of a model file; one at an address is downloaded to the cache folder, once, and checked.

    Args:
        path: A path, or ``https://HOST/FILE#sha256=CHECKSUM``.

    Raises:
        UserError: An address has no SHA-256, or does not send a file that has it.
    """
    if not is_address(path):
        return Path(path)
    from kd_lightning.data.download import Limits, download  # files that are here need none of its libraries

    url, mark, checksum = str(path).partition(MARK)
    if not mark or not re.fullmatch("[0-9a-fA-F]{64}", checksum):
        plain = shown(url.partition("#")[0])
        raise UserError(
            f"{shown(path)} has no SHA-256, so it cannot be checked; give {plain}{MARK}..., where `curl -sL {plain} | "
            "sha256sum` prints the 64 digits for a file that you trust."
        )
    folder = cache_folder()
    if folder is None:
        raise UserError(f"{shown(path)} needs a cache folder to be downloaded to; name one with XDG_CACHE_HOME.")
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)[-100:].lstrip(".") or "weights"
    target = folder / "models" / checksum[:16].lower() / name
    return download(target, checksum.lower(), [url], ways_out=WAYS_OUT, remedy=REMEDY, limits=Limits(size=MAX_BYTES))
