"""Download of a file of known checksum: from the first source that sends the right bytes, saved atomically."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from time import monotonic
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kd_lightning.errors import UserError
from kd_lightning.files import file_digest, one_process_at_a_time, put_in_place
from kd_lightning.wording import shown

CHUNK_BYTES = 1 << 18
NETWORK_ERRORS = (OSError, HTTPException, ValueError, OverflowError)  # the last two: an invalid address or port

NAMES = {"md5": "MD5", "sha256": "SHA-256"}
MD5_DIGITS = 32

WAYS_OUT = (
    "name other sources, best first: --data.mirrors '[https://HOST/FOLDER]'",
    "train on images of your own: --data ImageFolderDataModule --data.root FOLDER",
    "see everything work without a download: kd-lightning fit --config quickstart.yaml",
)
"""What to do where no source sends a data set."""


class Limits(NamedTuple):
    """The limits of a source.

    Attributes:
        seconds: A source that falls below ``rate`` in a stretch of so many seconds is given up.
        rate: Bytes a second.
        size: Largest size of a file in bytes; the largest of the well-known sets has 182 million.
    """

    seconds: float = 30.0
    rate: float = 10_000
    size: int = 2**28


USUAL = Limits()


class SourceError(Exception):
    """The reason why a source did not send the file."""


def fetch(name: str, md5: str, folder: Path, sources: Sequence[str], limits: Limits = USUAL) -> Path:
    """Return the path of a file in a folder, downloading it if it is not there with the right bytes.

    The sources are tried in their order, each after any failure of the one before. A partial download stays beside the
    file with the ending ``.part``; the next source or the next start continues it. Of several processes that need the
    same file, one downloads it and the others wait.

    Args:
        name: Name of the file.
        md5: MD5 of its bytes, hexadecimal.
        folder: The file's folder; created where it is missing.
        sources: http or https addresses of the folders to get it from.
        limits: The rate below which a source is given up, and the largest size of a file.

    Raises:
        UserError: No source sent the right bytes, the folder cannot be written to, or a source is not an http address.
    """
    urls = [f"{source.rstrip('/')}/{name}" for source in sources]
    remedy = "choose another with --data.root"
    return download(folder / name, md5, urls, ways_out=WAYS_OUT, remedy=remedy, limits=limits)


def download(
    target: Path, checksum: str, urls: Sequence[str], *, ways_out: Sequence[str], remedy: str, limits: Limits = USUAL
) -> Path:
    """Return the path of a file after downloading it, as ``fetch`` does, if it is not there with the right bytes.

    Args:
        target: The file.
        checksum: MD5 or SHA-256 of its bytes, hexadecimal, in lower case.
        urls: http or https addresses of the file.
        ways_out: What to do where none sends it, besides placing the file by hand.
        remedy: What to do where its folder cannot be used.
        limits: The limits of each address.
    """
    with _usable(target.parent, remedy):
        if has_checksum(target, checksum):
            return target
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise UserError(f"mirror {url!r} must start with http:// or https://; correct --data.mirrors.")
        with one_process_at_a_time(target.with_name(f".{target.name}.lock"), partial(_say_waiting, target)):
            if not has_checksum(target, checksum):
                _download(target, checksum, urls, limits, ways_out)
    return target


def has_checksum(path: Path, checksum: str) -> bool:
    """Whether there is a file with these bytes."""
    return path.is_file() and file_digest(path, _kind(checksum)) == checksum


def _kind(checksum: str) -> str:
    return "md5" if len(checksum) == MD5_DIGITS else "sha256"


@contextmanager
def _usable(folder: Path, remedy: str) -> Iterator[None]:
    """Make a folder, and turn errors of reading and writing in it into a ``UserError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot use the folder {folder.absolute()}: {error.strerror or error}; "
            f"make it readable and writable with enough space, or {remedy}."
        ) from error


def _say_waiting(target: Path) -> None:
    Console(stderr=True).print(f"Waiting for {target.name}, which another process is downloading.", markup=False)


def _download(target: Path, checksum: str, urls: Sequence[str], limits: Limits, ways_out: Sequence[str]) -> None:
    part = target.with_name(f"{target.name}.part")
    failures: list[str] = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for url in urls:
            try:
                _receive_checked(url, part, checksum, limits, progress)
            except SourceError as error:
                failures.append(shown(f"{url}: {error}"))  # the server chose its words
                progress.console.print(failures[-1], markup=False, highlight=False, soft_wrap=True)
            else:
                put_in_place(part, target)
                return
    raise UserError(_not_downloaded(target, checksum, failures, ways_out))


def _receive_checked(url: str, part: Path, checksum: str, limits: Limits, progress: Progress) -> None:
    """Fill ``part`` from a source until its bytes are right; wrong bytes are deleted."""
    continued = _receive(url, part, limits, progress)
    if continued and not has_checksum(part, checksum):  # perhaps the older bytes were the wrong ones
        part.unlink()
        _receive(url, part, limits, progress)
    found = file_digest(part, _kind(checksum))
    if found != checksum:
        part.unlink()
        raise SourceError(f"wrong bytes ({NAMES[_kind(checksum)]} {found} instead of {checksum})")


def _receive(url: str, part: Path, limits: Limits, progress: Progress) -> bool:
    """Write what the source sends to ``part``; return whether bytes of an earlier attempt are still in it."""
    there = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, there, limits.seconds)
    except HTTPError as error:
        if there and error.code == 416:  # the source has no bytes after those that are there already
            return True
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    with response:
        start = there if response.status == 206 else 0
        _save(response, part, start, limits, progress)
    return start > 0


def _open(url: str, start: int, seconds: float) -> HTTPResponse:
    headers = {"User-Agent": "kd_lightning", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=seconds)
    except HTTPError:
        raise
    except NETWORK_ERRORS as error:
        raise SourceError(_reason(error, seconds)) from error
    return response


def _save(response: HTTPResponse, part: Path, start: int, limits: Limits, progress: Progress) -> None:
    total = None if response.length is None else start + response.length
    host = shown(urlsplit(response.url).hostname)
    task = progress.add_task(f"{part.stem} from {host}", total=total, completed=start)
    received = start
    with part.open("ab" if start else "wb") as file:
        for chunk in _chunks(response, limits):
            received += len(chunk)
            if max(received, total or 0) > limits.size:
                part.unlink()
                raise SourceError(f"it sends more than {limits.size:,} bytes, which no file has")
            file.write(chunk)
            progress.update(task, completed=received)
    if total is not None and received < total:
        raise SourceError(f"the connection ended after {received} of {total} bytes")


def _chunks(response: HTTPResponse, limits: Limits) -> Iterator[bytes]:
    """Yield the bytes as they arrive; a stretch of time in which there are too few ends it."""
    begin, received = monotonic(), 0
    try:
        while chunk := response.read1(CHUNK_BYTES):
            received += len(chunk)
            if monotonic() - begin > limits.seconds:
                if received < limits.rate * limits.seconds:
                    raise SourceError(f"only {received:,} bytes came for {limits.seconds:g} s")
                begin, received = monotonic(), 0
            yield chunk
    except NETWORK_ERRORS as error:
        raise SourceError(_reason(error, limits.seconds)) from error


def _reason(error: Exception, seconds: float) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {seconds:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _not_downloaded(target: Path, checksum: str, failures: Sequence[str], ways_out: Sequence[str]) -> str:
    kind = _kind(checksum)
    there = f" (the file there is broken: its {NAMES[kind]} is {file_digest(target, kind)})" if target.is_file() else ""
    return "\n".join(
        [
            f"{target.name} could not be downloaded. Tried:",
            *(f"  {failure}" for failure in failures or ["nothing: the list of mirrors is empty"]),
            "Ways out:",
            f"  - put the file, with {NAMES[kind]} {checksum}, at {target.absolute()}{there}; it then needs no network",
            *(f"  - {way_out}" for way_out in ways_out),
        ]
    )
