"""Image files as one array that is decoded once and cached on disk."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from inspect import getsource
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
import PIL
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_warn
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from PIL.features import codecs, features, modules, version

from kd_lightning.data.decode_parallel import decode, decode_in_order, worker_count
from kd_lightning.data.pixel_range import Found, decode_by_range
from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, cache_folder, file_state
from kd_lightning.inference import images
from kd_lightning.inference.images import BrokenImageError, EncodedImage, ImageFile, PixelRange, Pixels
from kd_lightning.machine.progress import with_progress
from kd_lightning.wording import shown

CODECS = ("jpg", "libjpeg_turbo", "webp", "libtiff", "zlib", "avif")
"""Libraries below Pillow: two versions may decode the same file to different pixels."""
NAMED = 20  # broken files that a message names


class Decoded(NamedTuple):
    """The images of a list of files.

    Attributes:
        images: Pixels of the files that can be read, ``(K, S, S, C)``, uint8: a read-only memory map of the cache, or
            an array where there is no cache.
        kept: Positions of these files in the list, ascending, ``(K,)``, int64.
        broken: The other files.
        pixel_range: Values of black and white in files of more than 8 bits; ``None`` where there are none.
    """

    images: Pixels
    kept: NDArray[np.int64]
    broken: tuple[BrokenImageError, ...]
    pixel_range: PixelRange | None = None


def decode_images(
    names: Sequence[ImageFile],
    image_size: int,
    channels: int,
    *,
    root: str | Path,
    on_broken: Literal["stop", "skip"] = "stop",
    cache_dir: str | Path | None = None,
    pixel_range: PixelRange | None = None,
    train: int | None = None,
) -> Decoded:
    """Decode image files on all cores; the next start reads them from a cache on disk, if none has changed.

    A cache is valid for one list of names, the state of the file under each, one image size, one number of channels,
    one range of values, and the code and libraries that decode. It is written atomically and replaces older ones of the
    same root.

    Args:
        names: The files, in the order of the images.
        image_size: Height and width ``S`` in pixels.
        channels: ``C``: 1 (grey) or 3 (colour).
        root: The folder that holds the files.
        on_broken: Whether broken files raise an error or are left out.
        cache_dir: Folder of the caches; ``None`` takes ``kd_lightning`` in the user's cache folder. Where it cannot be
            written to, the images are decoded in memory, with a warning.
        pixel_range: Values of black and white in files of more than 8 bits; ``None`` finds them and warns.
        train: Number of training images, which come first and determine the range; all where it is not given.

    Raises:
        UserError: Files are broken and ``on_broken`` is ``stop``; it lists them.
    """
    files = _Files(
        names,
        (image_size, image_size, channels),
        Path(root),
        pixel_range,
        len(names) if train is None else train,
    )
    folder = cache_folder() if cache_dir is None else Path(cache_dir)
    try:
        images, found = files.decoded() if folder is None else _cached(files, folder)
    except (OSError, NotImplementedError, UserError) as error:  # NotImplementedError: no locks on this file system
        reason = error.__cause__ if isinstance(error, UserError) else error
        if reason is None:
            raise
        rank_zero_warn(
            f"decoded images cannot be cached in {shown(folder)} ({getattr(reason, 'strerror', None) or reason}), so "
            "every start decodes them again; choose a folder with --data.cache_dir."
        )
        images, found = files.decoded()
    if found.note:
        rank_zero_warn(found.note)
    if found.broken and on_broken == "stop":
        raise UserError(_listing(names, found.broken))
    kept = np.delete(np.arange(len(names)), list(found.broken))
    broken = tuple(BrokenImageError(Path(str(names[at])), reason) for at, reason in found.broken.items())
    return Decoded(images, kept, broken, found.pixel_range)


def _listing(names: Sequence[ImageFile], broken: dict[int, str]) -> str:
    lines = [f"  {shown(names[position])}: {shown(reason)}" for position, reason in list(broken.items())[:NAMED]]
    more = [f"  and {len(broken) - NAMED:,} more"] if len(broken) > NAMED else []
    head = f"{len(broken):,} of {len(names):,} images cannot be read:"
    return "\n".join([head, *lines, *more, "Fix or remove them, or leave them out with --data.on_broken skip."])


def _cached(files: "_Files", folder: Path) -> tuple[Pixels, Found]:
    """Read the cache; of several processes that find none, one decodes and the others wait for it."""
    path = folder / f"{files.source}-{files.key}.npy"
    found = files.read(path)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{files.source}.lock"):
            found = files.read(path) or files.write(path)
            _remove_others(path, files.source)
    return found


def _remove_others(path: Path, source: str) -> None:
    """Remove older caches of the same source; the caller holds the lock."""
    for other in path.parent.glob(f"{source}-*"):
        if other.stem != path.stem:
            with suppress(OSError):  # Windows keeps a file that another process reads
                other.unlink()


class _Files:
    """A list of image files in their current state.

    Attributes:
        source: A digest of the root, the image size, the channels and the requested range.
        key: A digest of the names below the root, the files' states, and the code and libraries that decode them.
    """

    def __init__(
        self,
        names: Sequence[ImageFile],
        shape: tuple[int, int, int],
        root: Path,
        pixel_range: PixelRange | None,
        train: int,
    ) -> None:
        self.names, self.shape, self.pixel_range, self.train = names, shape, pixel_range, train
        states = [name if isinstance(name, EncodedImage) else file_state(name) for name in names]
        self.size = sum(state.size for state in states if state is not None)
        self.source = digest(root.resolve(), self.shape, pixel_range)
        place = root.as_posix()  # however the user writes the root, the names below it are the same
        below = (str(name).removeprefix(place).lstrip("/") for name in names)
        texts = (state.state if isinstance(state, EncodedImage) else state for state in states)
        self.key = digest(decoder(), train, *(f"{name}\0{state}" for name, state in zip(below, texts, strict=True)))

    def _decode(self, put: Callable[[int, Pixels], object]) -> Found:
        """Pass the readable files' pixels to ``put``, part by part, each with the position of its first row."""

        def decode(pixel_range: PixelRange | None) -> dict[int, str]:
            broken: dict[int, str] = {}
            row, workers = 0, worker_count(len(self.names), self.size)
            for pixels, reasons in decode_in_order(self.names, self.shape[0], self.shape[2], workers, pixel_range):
                put(row, pixels)
                row += len(pixels)
                broken |= reasons
            return broken

        return decode_by_range(self.names, self.train, self.pixel_range, decode)

    def decoded(self) -> tuple[Pixels, Found]:
        """Decode into memory."""
        images = np.empty((len(self.names), *self.shape), np.uint8)

        def put(row: int, pixels: Pixels) -> None:
            images[row : row + len(pixels)] = pixels

        found = self._decode(put)
        return images[: len(images) - len(found.broken)], found

    def write(self, path: Path) -> tuple[Pixels, Found]:
        """Decode into a cache: a NumPy file with room for all images, and the findings beside it."""
        shape = (len(self.names), *self.shape)
        with atomic_write(path) as temporary, temporary.open("r+b") as file:
            write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            begin = file.tell()

            def put(row: int, pixels: Pixels) -> None:
                file.seek(begin + row * prod(self.shape))
                file.write(pixels.data)

            found = self._decode(put)
            file.truncate(begin + prod(shape))
        with atomic_write(path.with_suffix(".json")) as temporary:
            plain = [list(found.broken.items()), found.pixel_range, found.note]
            temporary.write_text(json.dumps([checksum(path), *plain]))
        images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        return images[: len(images) - len(found.broken)], found

    def read(self, path: Path) -> tuple[Pixels, Found] | None:
        """Open a cache; ``None`` where there is none, where it is damaged, or where a broken file can be read now."""
        try:
            written, broken, pixel_range, note = json.loads(path.with_suffix(".json").read_text())
            found = Found(dict(broken), pixel_range and tuple(pixel_range), note)
            images = np.load(path, mmap_mode="r", allow_pickle=False)
            if written != checksum(path) or images.shape != (len(self.names), *self.shape):
                return None
            names = [self.names[position] for position in found.broken]
        except Exception:  # on damaged files NumPy and json raise nearly anything
            return None
        if len(decode(names, self.shape[0], self.shape[2], found.pixel_range)[0]):
            return None
        return images[: len(images) - len(found.broken)], found


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file: a byte that a disk has changed would be a wrong pixel without a word."""
    found = 0
    with path.open("rb") as file:
        parts = iter(partial(file.read, 2**20), b"")
        for part in with_progress(parts, "Checking bytes of decoded images", path.stat().st_size, len):
            found = crc32(part, found)
    return found


@cache
def decoder() -> str:
    """Return a digest of the code and the libraries that determine a file's pixels."""
    known = [codec for codec in CODECS if codec in {**codecs, **modules, **features}]
    return digest(PIL.__version__, *(str(version(codec)) for codec in known), getsource(images))
