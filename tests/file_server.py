"""An HTTP server on loopback that serves one file well, or badly in a chosen way."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class FileServer(ThreadingHTTPServer):
    """Serves ``body`` under every path; the first part of the path chooses how, such as ``/truncated/name``.

    ``requests`` lists each request's way and Range header. ``held`` is set when a request under ``/held`` came; it is
    answered when ``go_on`` is set.
    """

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.requests: list[tuple[str, str | None]] = []
        self.held = threading.Event()
        self.go_on = threading.Event()

    def source(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        byte_range = self.headers.get("Range")
        self.server.requests.append((way, byte_range))
        getattr(self, f"send_{way}")(byte_range)

    def send_ranges(self, byte_range: str | None) -> None:
        body = self.server.body
        start = 0 if byte_range is None else int(byte_range.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self._send(416, b"")
        elif byte_range is None:
            self._send(200, body)
        else:
            self._send(206, body[start:], {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})

    def send_plain(self, _: str | None) -> None:
        self._send(200, self.server.body)

    def send_unsized(self, _: str | None) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)

    def send_truncated(self, _: str | None) -> None:
        self._send(200, self.server.body[: len(self.server.body) // 2], {"Content-Length": str(len(self.server.body))})

    def send_wrong(self, _: str | None) -> None:
        self._send(200, self.server.body[::-1])

    def send_missing(self, _: str | None) -> None:
        self._send(404, b"<html>not here</html>")

    def send_stalled(self, _: str | None) -> None:
        self.send_truncated(None)
        self.server.go_on.wait()

    def send_drip(self, _: str | None) -> None:
        self.send_response(200)
        self.end_headers()
        self._repeat(b"x", 0.01)

    def send_endless(self, _: str | None) -> None:
        self.send_response(200)
        self.end_headers()
        self._repeat(b"x" * 2**16, 0)

    def send_huge(self, _: str | None) -> None:
        self._send(200, b"x", {"Content-Length": str(2**40)})

    def _repeat(self, data: bytes, pause: float) -> None:
        """Send the same bytes until the client closes."""
        with suppress(OSError):
            while not self.server.go_on.wait(pause):
                self.wfile.write(data)

    def send_held(self, byte_range: str | None) -> None:
        self.server.held.set()
        self.server.go_on.wait()
        self.send_ranges(byte_range)

    def send_coloured(self, _: str | None) -> None:
        self.send_response(404, "not \x1b[31mhere")
        self.end_headers()

    def send_moved(self, _: str | None) -> None:
        self._send(302, b"", {"Location": self.server.source("plain") + "/elsewhere"})

    def send_file(self, _: str | None) -> None:
        self._send(302, b"", {"Location": "file:///etc/hostname"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: tests read ``requests``."""
