"""Download of a file of known MD5: from the first source that sends the right bytes, saved atomically."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kd_lightning.data.http_source import Limits, NothingLeftError, Source, SourceError
from kd_lightning.digest import file_digest
from kd_lightning.errors import UserError
from kd_lightning.files import put_in_place
from kd_lightning.wording import shown

USUAL = Limits()


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
    target = folder / name
    with _usable(folder):
        if has_md5(target, md5):
            return target
        urls = [_url(source, name) for source in sources]
        with _one_process_at_a_time(target):
            if not has_md5(target, md5):
                _download(target, md5, urls, limits)
    return target


def has_md5(path: Path, md5: str) -> bool:
    """Whether there is a file with these bytes."""
    return path.is_file() and _md5(path) == md5


def _md5(path: Path) -> str:
    try:
        return file_digest(path, "md5")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; make it readable or remove it.") from error


def _url(source: str, name: str) -> str:
    if not source.startswith(("http://", "https://")):
        raise UserError(f"mirror {source!r} must start with http:// or https://; correct --data.mirrors.")
    return f"{source.rstrip('/')}/{name}"


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Turn errors of reading and writing a folder into a ``UserError``; network errors do not pass here."""
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


def _download(target: Path, md5: str, urls: Sequence[str], limits: Limits) -> None:
    part = target.with_name(f"{target.name}.part")
    failures: list[str] = []
    with _progress() as progress:
        for url in urls:
            try:
                _receive_checked(url, part, md5, limits, progress)
            except SourceError as error:
                failures.append(shown(f"{url}: {error}"))  # the server chose its words
                progress.console.print(failures[-1], markup=False, highlight=False, soft_wrap=True)
            else:
                put_in_place(part, target)
                return
    raise UserError(_ways_out(target, md5, failures))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def _receive_checked(url: str, part: Path, md5: str, limits: Limits, progress: Progress) -> None:
    """Fill ``part`` from a source until its bytes are right; wrong bytes are deleted."""
    continued = _receive(url, part, limits, progress)
    if continued and _md5(part) != md5:  # perhaps the older bytes were the wrong ones
        part.unlink()
        _receive(url, part, limits, progress)
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise SourceError(f"wrong bytes (MD5 {found} instead of {md5})")


def _receive(url: str, part: Path, limits: Limits, progress: Progress) -> bool:
    """Write what the source sends to ``part``; return whether bytes of an earlier attempt are still in it."""
    there = part.stat().st_size if part.exists() else 0
    try:
        with Source(url, there, limits) as source:
            start = there if source.response.status == 206 else 0
            _save(source, part, start, limits, progress)
    except NothingLeftError:
        if not there:
            raise
        return True
    return start > 0


def _save(source: Source, part: Path, start: int, limits: Limits, progress: Progress) -> None:
    response = source.response
    total = None if response.length is None else start + response.length  # beyond that length nothing is read
    _check_size(total or start, part, limits)
    host = shown(urlsplit(response.url).hostname)
    task = progress.add_task(f"{part.stem} from {host}", total=total, completed=start)
    received = start
    with part.open("ab" if start else "wb") as file:
        for chunk in source.chunks():
            received += len(chunk)
            if received > limits.size:
                break
            file.write(chunk)
            progress.update(task, completed=received)
    _check_size(received, part, limits)
    if total is not None and received < total:
        raise SourceError(f"the connection ended after {received} of {total} bytes")


def _check_size(size: int, part: Path, limits: Limits) -> None:
    """Delete the partial file and raise, if it is larger than any of the data sets' files."""
    if size > limits.size:
        part.unlink(missing_ok=True)
        raise SourceError(f"it sends more than {limits.size:,} bytes, which no file has")


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
