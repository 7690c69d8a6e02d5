"""What one http or https source sends, for as long as it sends fast enough."""

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


class Limits(NamedTuple):
    """What is asked of a source.

    Attributes:
        seconds: In each stretch of so many seconds, from the first on, ``rate`` is kept or the source is given up.
        rate: Bytes a second.
        size: Bytes that a file may have; of the well-known sets' the largest has 182 million.
    """

    seconds: float = 30.0
    rate: float = 10_000
    size: int = 2**28


class SourceError(Exception):
    """Why one source did not give the file."""


class NothingBehindError(SourceError):
    """The source has no bytes behind those that are there already."""


class Response(NamedTuple):
    """What a source says before it sends bytes: status, number of bytes where it tells, and the address in the end."""

    status: int
    length: int | None
    url: str


class Pace:
    """Says when a source has become too slow.

    Args:
        limits: What is asked of it.
        now: The time in seconds, by any clock.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._until = now + limits.seconds
        self._received = 0

    def left(self, now: float) -> float:
        """Return the seconds until the next look at the clock matters."""
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
    """Reads from a source in a thread of its own, so that it can be left wherever it hangs: in its name or its header.

    Args:
        url: The file's http or https address.
        start: Bytes at the beginning that are not asked for.
        limits: What is asked of the source.

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
        self._left = Event()

    def __enter__(self) -> Self:
        Thread(target=self._read, daemon=True, name="download").start()
        try:
            item = self._next()
        except HTTPError as error:
            error.close()
            if error.code == 416:
                raise NothingBehindError(str(error)) from error
            raise SourceError(f"HTTP {error.code} {error.reason}") from error
        assert isinstance(item, Response)
        self.response = item
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        with suppress(Empty):
            while True:
                self._items.get_nowait()  # so that the thread, which may wait for room, sees that it is left

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes as they come."""
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
                while not self._left.is_set() and (chunk := response.read1(CHUNK_BYTES)):
                    self._items.put(chunk)
            self._items.put(b"")
        except NETWORK_ERRORS as error:
            self._items.put(error)


def _open(url: str, start: int, seconds: float) -> HTTPResponse:
    """Open http and https and nothing else; urllib's own opener also reads files and follows redirects to FTP."""
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
