"""A real browser without a window, driven over two pipes: no port, no network, no further package."""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools import missing

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds


class Browser:
    """One page of a browser; records every error and every request of the page."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers, self.count, self.session = commands, answers, 0, ""
        self.unread = bytearray()
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.count:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.problems, self.requests = [], []
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=page.as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def run(self, script: str) -> Any:
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.answers], [], [], PATIENCE)
            assert ready, f"the browser was silent for {PATIENCE} seconds"
            more = os.read(self.answers, 1 << 20)
            assert more, "the browser ended"
            self.unread += more
        raw, _, self.unread = self.unread.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, detail: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(detail["request"]["url"])
        wrong = event == "Runtime.consoleAPICalled" and detail["type"] in ("error", "warning", "assert")
        if wrong or event in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(json.dumps(detail))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start the browser with its profile in ``folder``."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None) or missing("chromium to open the page")
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4; a shell puts the pipes there.
    shell = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    arguments = [*FLAGS, f"--user-data-dir={folder}", "about:blank"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["bash", "-c", shell, program, *arguments], pass_fds=(to_browser, from_browser), stdout=quiet, stderr=quiet
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        page = Browser(commands, answers)
        yield page
        page.session = ""
        page.send("Browser.close")
    finally:
        os.close(commands)
        os.close(answers)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
