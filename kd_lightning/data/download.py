"""Download of a file whose MD5 is known: from the first source that gives the right bytes, whole or not at all."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kd_lightning.errors import UserError
from kd_lightning.wording import shown

STALL_SECONDS = 30.0
CHUNK_BYTES = 1 << 18
NETWORK_ERRORS = (OSError, HTTPException, ValueError, OverflowError)  # the last two: an address or a port that is none
HANDLERS: tuple[type[BaseHandler], ...] = (
    ProxyHandler,
    HTTPHandler,
    HTTPSHandler,
    HTTPRedirectHandler,
    HTTPErrorProcessor,
    HTTPDefaultErrorHandler,
    UnknownHandler,
)


class SourceError(Exception):
    """Why one source did not give the file."""


def fetch(name: str, md5: str, folder: Path, sources: Sequence[str], stall_seconds: float = STALL_SECONDS) -> Path:
    """Return the path of a file in a folder, downloading it if it is not there with the right bytes.

    The sources are tried in their order, each after any failure of the one before. A partial download stays beside the
    file with the ending ``.part`` and is continued, by the next source or the next start. Of several processes that
    ask for the same file, one downloads it and the others wait.

    Args:
        name: Name of the file.
        md5: MD5 of its bytes, hexadecimal.
        folder: Where the file is or shall be; made where it is missing.
        sources: http or https addresses of the folders to get it from.
        stall_seconds: Seconds without a byte after which a source is given up.

    Raises:
        UserError: No source gave the right bytes, the folder cannot be written to, or a source is no such address.
    """
    target = folder / name
    with _usable(folder):
        if has_md5(target, md5):
            return target
        urls = [_url(source, name) for source in sources]
        with _one_process_at_a_time(target):
            if not has_md5(target, md5):
                _download(target, md5, urls, stall_seconds)
    return target


def has_md5(path: Path, md5: str) -> bool:
    """Whether there is a file with these bytes."""
    return path.is_file() and _md5(path) == md5


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; make it readable or remove it.") from error


def _url(source: str, name: str) -> str:
    if not source.startswith(("http://", "https://")):
        raise UserError(f"mirror {source!r} must start with http:// or https://; correct --data.mirrors.")
    return f"{source.rstrip('/')}/{name}"


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Say what is wrong with a folder that cannot be read or written; errors of the network do not pass here."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot use the folder {folder.absolute()}: {error.strerror or error}; "
            "make it readable and writable with enough space, or choose another with --data.root."
        ) from error


@contextmanager
def _one_process_at_a_time(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        Console(stderr=True).print(f"Waiting for {target.name}, which another process is downloading.", markup=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(target: Path, md5: str, urls: Sequence[str], stall_seconds: float) -> None:
    part = target.with_name(f"{target.name}.part")
    failures: list[str] = []
    with _progress() as progress:
        for url in urls:
            try:
                _receive_checked(url, part, md5, stall_seconds, progress)
            except SourceError as error:
                failures.append(shown(f"{url}: {error}"))  # the server chose its words
                progress.console.print(failures[-1], markup=False, highlight=False, soft_wrap=True)
            else:
                part.replace(target)
                return
    raise UserError(_ways_out(target, md5, failures))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def _receive_checked(url: str, part: Path, md5: str, stall_seconds: float, progress: Progress) -> None:
    """Fill ``part`` from a source until its bytes are right; wrong bytes are not kept."""
    continued = _receive(url, part, stall_seconds, progress)
    if continued and _md5(part) != md5:  # perhaps the older bytes were the wrong ones
        part.unlink()
        _receive(url, part, stall_seconds, progress)
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise SourceError(f"wrong bytes (MD5 {found} instead of {md5})")


def _receive(url: str, part: Path, stall_seconds: float, progress: Progress) -> bool:
    """Write what the source sends to ``part``; return whether bytes that were there before are still in it."""
    there = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, there, stall_seconds)
    except HTTPError as error:
        error.close()
        if error.code == 416 and there:  # no bytes behind ours
            return True
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except NETWORK_ERRORS as error:
        raise SourceError(_reason(error, stall_seconds)) from error
    with response:
        start = there if response.status == 206 else 0
        _save(response, part, start, stall_seconds, progress)
    return start > 0


def _open(url: str, start: int, stall_seconds: float) -> HTTPResponse:
    """Open http and https and nothing else; urllib's own opener also reads files and follows redirects to FTP."""
    opener = OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    headers = {"User-Agent": "kd_lightning", **({"Range": f"bytes={start}-"} if start else {})}
    response: HTTPResponse = opener.open(Request(url, headers=headers), timeout=stall_seconds)
    return response


def _save(response: HTTPResponse, part: Path, start: int, stall_seconds: float, progress: Progress) -> None:
    total = None if response.length is None else start + response.length
    task = progress.add_task(f"{part.stem} from {shown(urlsplit(response.url).hostname)}", total=total, completed=start)
    received = start
    with part.open("ab" if start else "wb") as file:
        for chunk in _chunks(response, stall_seconds):
            file.write(chunk)
            received += len(chunk)
            progress.update(task, completed=received)
    if total is not None and received < total:
        raise SourceError(f"the connection ended after {received} of {total} bytes")


def _chunks(response: HTTPResponse, stall_seconds: float) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except NETWORK_ERRORS as error:
            raise SourceError(_reason(error, stall_seconds)) from error
        if not chunk:
            return
        yield chunk


def _reason(error: Exception, stall_seconds: float) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {stall_seconds:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _ways_out(target: Path, md5: str, failures: Sequence[str]) -> str:
    there = f" (the file there is broken: its MD5 is {_md5(target)})" if target.is_file() else ""
    return "\n".join(
        [
            f"{target.name} could not be downloaded. Tried:",
            *(f"  {failure}" for failure in failures or ["nothing: the list of mirrors is empty"]),
            "Ways out:",
            f"  - put the file, with MD5 {md5}, at {target.absolute()}{there}; it is then used without a network",
            "  - name other sources, best first: --data.mirrors '[https://HOST/FOLDER]'",
            "  - train on images of your own: --data ImageFolderDataModule --data.root FOLDER",
            "  - see everything work without a download: python -m kd_lightning fit --config quickstart.yaml",
        ]
    )
