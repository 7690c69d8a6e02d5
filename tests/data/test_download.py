import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from file_server import FileServer

from kd_lightning.data.download import Limits, fetch
from kd_lightning.errors import UserError

NAME = "cifar-10-python.tar.gz"
SIZE = 2**20
FORK = get_context("fork")
SLOW = {"stalled", "drip"}


BODY = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
HALF = len(BODY) // 2


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(BODY) as running:
        yield running


def get(folder: Path, *sources: str, seconds: float = 30) -> Path:
    return fetch(NAME, MD5, folder, sources, Limits(seconds, rate=1000, size=SIZE))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def assert_only_the_right_file(folder: Path) -> None:
    assert (folder / NAME).read_bytes() == BODY
    assert {path.name for path in folder.iterdir()} == {NAME, f".{NAME}.lock"}


@pytest.mark.parametrize("way", ["ranges", "plain", "unsized", "moved"])
def test_a_good_source_gives_the_file_in_a_new_folder(tmp_path: Path, server: FileServer, way: str) -> None:
    assert get(tmp_path / "new" / "data", server.source(way)) == tmp_path / "new" / "data" / NAME
    assert_only_the_right_file(tmp_path / "new" / "data")


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("truncated", f"the connection ended after {HALF} of {len(BODY)} bytes"),
        ("wrong", f"wrong bytes \\(MD5 [0-9a-f]+ instead of {MD5}\\)"),
        ("coloured", r"HTTP 404 not \\x1b\[31mhere"),
        ("stalled", "(nothing|only [0-9,]+ bytes) came for 0.4 s"),
        ("drip", "(nothing|only [0-9,]+ bytes) came for 0.4 s"),
        ("huge", "it sends more than 1,048,576 bytes, which no file has"),
        ("file", "HTTP 302 .*not allowed"),
    ],
)
def test_a_bad_source_is_given_up_for_the_next_and_never_makes_a_file(
    tmp_path: Path, server: FileServer, way: str, reason: str
) -> None:
    bad, seconds = server.source(way), 0.4 if way in SLOW else 30
    with pytest.raises(UserError, match=f"  {re.escape(bad)}/{NAME}: {reason}\n"):
        get(tmp_path, bad, seconds=seconds)
    assert not (tmp_path / NAME).exists()
    get(tmp_path, bad, *[server.source("plain")] * 3, seconds=seconds)  # on a busy machine a good one may be slow, too
    assert_only_the_right_file(tmp_path)


@pytest.mark.parametrize("source", ["http://127.0.0.1:1", "http://[bad", "http://127.0.0.1:99999", "http://é/ü"])
def test_an_invalid_address_is_given_up_for_the_next_source(tmp_path: Path, server: FileServer, source: str) -> None:
    get(tmp_path, source, server.source("plain"))
    assert_only_the_right_file(tmp_path)


def test_the_sources_are_tried_in_their_order_and_no_further_than_needed(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path, *(server.source(way) for way in ("missing", "wrong", "plain", "ranges")))
    assert [way for way, _ in server.requests] == ["missing", "wrong", "plain"]


def test_an_answer_without_end_leaves_nothing_on_the_disk(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:1000])
    with pytest.raises(UserError, match="sends more than"):
        get(tmp_path, server.source("endless"))
    assert [path.name for path in tmp_path.iterdir()] == [f".{NAME}.lock"]


def test_the_next_source_sends_only_the_missing_bytes(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path, server.source("truncated"), server.source("ranges"))
    assert server.requests == [("truncated", None), ("ranges", f"bytes={HALF}-")]
    assert_only_the_right_file(tmp_path)


def test_a_server_without_ranges_sends_everything_again(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:1000])
    get(tmp_path, server.source("plain"))
    assert server.requests == [("plain", "bytes=1000-")]
    assert_only_the_right_file(tmp_path)


@pytest.mark.parametrize("old", [b"x" * 1000, BODY[:-1] + b"xyz"], ids=["wrong", "too long"])
def test_a_wrong_partial_file_is_dropped_and_the_same_source_tried_again(
    tmp_path: Path, server: FileServer, old: bytes
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(old)
    get(tmp_path, server.source("ranges"))
    assert server.requests == [("ranges", f"bytes={len(old)}-"), ("ranges", None)]
    assert_only_the_right_file(tmp_path)


def test_a_file_that_is_there_is_used_without_a_network(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(BODY)
    assert get(tmp_path) == tmp_path / NAME
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_one_message_says_what_was_tried_and_the_ways_out(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / NAME).write_bytes(BODY[:1000])
    sources = [server.source("missing"), server.source("wrong")]
    with pytest.raises(UserError) as caught:
        get(tmp_path, *sources)
    message = str(caught.value)
    for part in (*sources, "404", "wrong bytes", str(tmp_path / NAME), "is broken", MD5):
        assert part in message
    for way_out in ("--data.mirrors", "ImageFolderDataModule", "quickstart.yaml"):
        assert way_out in message


@pytest.mark.parametrize("source", ["file:///etc", "host/folder"])
def test_only_http_addresses_are_mirrors(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match="must start with http"):
        get(tmp_path, source)
    assert list(tmp_path.iterdir()) == []


def test_a_download_shows_its_progress_on_stderr(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    get(tmp_path, server.source("plain"))
    shown = capsys.readouterr()
    assert NAME in shown.err
    assert "kB" in shown.err
    assert shown.out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_ends_in_one_sentence_and_no_file(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*--data.root"):
        get(tmp_path, server.source("plain"), server.source("ranges"))
    assert not (tmp_path / NAME).exists()
    assert len(server.requests) == 1  # another source would not help


def test_a_folder_that_cannot_be_made_ends_in_one_sentence(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot use the folder .*--data.root"):
        get(tmp_path / "file" / "data", server.source("plain"))
    assert server.requests == []


def test_two_processes_at_once_download_once(
    tmp_path: Path, server: FileServer, capfd: pytest.CaptureFixture[str]
) -> None:
    processes = [FORK.Process(target=get, args=(tmp_path, server.source("held"))) for _ in range(2)]
    for process in processes:
        process.start()
    assert server.held.wait(30)
    wait_until(lambda: "another process" in capfd.readouterr().err)
    server.go_on.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.requests == [("held", None)]
    assert_only_the_right_file(tmp_path)


def test_an_interrupted_download_is_continued_by_the_next_start(tmp_path: Path, server: FileServer) -> None:
    part = tmp_path / f"{NAME}.part"
    process = FORK.Process(target=get, args=(tmp_path, server.source("stalled")))
    process.start()
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.kill()
    process.join(30)
    assert not (tmp_path / NAME).exists()
    received = part.read_bytes()
    assert BODY.startswith(received)
    get(tmp_path, server.source("ranges"))
    assert server.requests[-1] == ("ranges", f"bytes={len(received)}-")
    assert_only_the_right_file(tmp_path)
