"""Read from one http or https source while it sends fast enough."""

from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import NamedTuple, Self
from urllib.error import HTTPError, URLError
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

CHUNK_BYTES = 1 << 18
NETWORK_ERRORS = (OSError, HTTPException, ValueError, OverflowError)  # the last two: an invalid address or port
HANDLERS: tuple[type[BaseHandler], ...] = (
    ProxyHandler,
    HTTPHandler,
    HTTPSHandler,
    HTTPRedirectHandler,
    HTTPErrorProcessor,
    HTTPDefaultErrorHandler,
    UnknownHandler,
)


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


class SourceError(Exception):
    """The reason why a source did not send the file."""


class NothingLeftError(SourceError):
    """The source has no bytes after those that are there already."""


class Response(NamedTuple):
    """The start of a source's response: status, number of bytes if known, and the address after redirects."""

    status: int
    length: int | None
    url: str


class Pace:
    """Detects that a source has become too slow.

    Args:
        limits: The rate that it must keep.
        now: The time in seconds, by any clock.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._until = now + limits.seconds
        self._received = 0

    def left(self, now: float) -> float:
        """Return the seconds until the current stretch ends."""
        return max(0.0, self._until - now)

    def note(self, received: int, now: float) -> None:
        """Count bytes that came; raise ``SourceError`` at the end of a stretch in which there were too few."""
        self._received += received
        if now < self._until:
            return
        if self._received < self._limits.rate * self._limits.seconds:
            amount = f"only {self._received:,} bytes" if self._received else "nothing"
            raise SourceError(f"{amount} came for {self._limits.seconds:g} s")
        self._until, self._received = now + self._limits.seconds, 0


class Source:
    """Reads from a source in a thread of its own, which can be abandoned wherever it hangs: name look-up or header.

    Args:
        url: The file's http or https address.
        start: Bytes at the beginning to skip.
        limits: The limits of the source.

    Attributes:
        response: Its response to the request, once the ``with`` block has begun.
    """

    response: Response

    def __init__(self, url: str, start: int, limits: Limits) -> None:
        self._url = url
        self._start = start
        self._limits = limits
        self._pace = Pace(limits, monotonic())
        self._items: Queue[Response | bytes | Exception] = Queue(maxsize=4)
        self._abandoned = Event()

    def __enter__(self) -> Self:
        Thread(target=self._read, daemon=True, name="download").start()
        try:
            item = self._next()
        except HTTPError as error:
            error.close()
            if error.code == 416:
                raise NothingLeftError(str(error)) from error
            raise SourceError(f"HTTP {error.code} {error.reason}") from error
        assert isinstance(item, Response)
        self.response = item
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        with suppress(Empty):
            while True:
                self._items.get_nowait()  # the thread may wait for room; it then sees the event

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive."""
        while chunk := self._next():
            assert isinstance(chunk, bytes)
            self._pace.note(len(chunk), monotonic())
            yield chunk

    def _next(self) -> Response | bytes:
        while True:
            try:
                item = self._items.get(timeout=self._pace.left(monotonic()))
            except Empty:
                self._pace.note(0, monotonic())
                continue
            if isinstance(item, HTTPError):
                raise item
            if isinstance(item, Exception):
                raise SourceError(_reason(item, self._limits.seconds)) from item
            return item

    def _read(self) -> None:
        try:
            with _open(self._url, self._start, self._limits.seconds) as response:
                self._items.put(Response(response.status, response.length, response.url))
                while not self._abandoned.is_set() and (chunk := response.read1(CHUNK_BYTES)):
                    self._items.put(chunk)
            self._items.put(b"")
        except NETWORK_ERRORS as error:
            self._items.put(error)


def _open(url: str, start: int, seconds: float) -> HTTPResponse:
    """Open only http and https; urllib's own opener also reads files and follows redirects to FTP."""
    opener = OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    headers = {"User-Agent": "kd_lightning", **({"Range": f"bytes={start}-"} if start else {})}
    response: HTTPResponse = opener.open(Request(url, headers=headers), timeout=seconds)
    return response


def _reason(error: Exception, seconds: float) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {seconds:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
