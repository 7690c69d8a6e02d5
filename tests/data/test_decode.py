import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from difficult_images import SIZE, picture, write_difficult_images
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from kd_lightning.data import decode, decode_parallel, read_ahead
from kd_lightning.data.decode import Decoded, decode_images
from kd_lightning.data.decode_parallel import Part, decode_in_order, worker_count
from kd_lightning.data.read_ahead import row_reader
from kd_lightning.errors import UserError
from kd_lightning.inference.images import FULL_RANGE, BrokenImageError, Pixels, read_image
from kd_lightning.machine import progress


class Source:
    """A folder of images, with a count of its decodings."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "images"
        self.cache = folder / "cache"
        self.root.mkdir()
        self.decodings = 0
        for number in range(5):
            self.add(f"{number}.bmp", number)
        monkeypatch.setattr(decode, "decode_in_order", self._counted)

    def _counted(self, names: Sequence[str], *options: Any) -> Iterator[Part]:
        self.decodings += 1
        return decode_in_order(names, *options)

    def add(self, name: str, value: int) -> None:
        Image.fromarray(np.full((SIZE, SIZE, 3), value, np.uint8)).save(self.root / name)

    def names(self) -> list[str]:
        return sorted(map(str, self.root.iterdir()))

    def decode(self, image_size: int = SIZE, channels: int = 3) -> Decoded:
        return decode_images(self.names(), image_size, channels, root=self.root, cache_dir=self.cache)

    def caches(self) -> list[Path]:
        return sorted(path for path in self.cache.iterdir() if path.suffix != ".lock")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(tmp_path, monkeypatch)


def first_values(images: Pixels) -> list[int]:
    values: list[int] = images[:, 0, 0, 0].tolist()
    return values


def test_the_second_start_reads_a_memory_map_and_decodes_nothing(source: Source) -> None:
    first, second = source.decode(), source.decode()
    assert source.decodings == 1
    assert isinstance(second.images, np.memmap)
    assert first_values(second.images) == [0, 1, 2, 3, 4]
    assert np.array_equal(first.images, second.images)
    assert second.kept.tolist() == [0, 1, 2, 3, 4]
    assert second.broken == ()


def test_a_file_that_is_written_over_is_seen_although_its_size_and_time_are_put_back(source: Source) -> None:
    source.decode()
    path = source.root / "2.bmp"
    before = path.stat()
    source.add("2.bmp", 9)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert first_values(source.decode().images) == [0, 1, 9, 3, 4]


def test_another_codec_or_other_code_that_decodes_makes_a_new_cache(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.decode()
    for name, changed in (("version", lambda _: "9.9"), ("getsource", repr)):
        decode.decoder.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(decode, name, changed)
            source.decode()
    decode.decoder.cache_clear()
    assert source.decodings == 3


def test_added_and_removed_and_renamed_files_are_seen(source: Source) -> None:
    source.decode()
    source.add("5.bmp", 5)
    assert first_values(source.decode().images) == [0, 1, 2, 3, 4, 5]
    (source.root / "0.bmp").unlink()
    assert first_values(source.decode().images) == [1, 2, 3, 4, 5]
    (source.root / "1.bmp").rename(source.root / "6.bmp")
    assert first_values(source.decode().images) == [2, 3, 4, 5, 1]
    assert len(source.caches()) == 2  # pixels and findings


def test_the_cache_holds_however_the_folder_is_written(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.decode()
    monkeypatch.chdir(source.root)
    for root in (Path(), Path("../images"), source.root / ".." / "images"):
        names = [(root / f"{number}.bmp").as_posix() for number in range(5)]
        decode_images(names, SIZE, 3, root=root, cache_dir=source.cache)
    assert source.decodings == 1


def test_each_size_and_number_of_channels_has_a_cache_of_its_own(source: Source) -> None:
    shapes = [(SIZE, 3), (SIZE, 1), (8, 3)]
    for _ in range(2):
        assert [source.decode(*shape).images.shape[1:] for shape in shapes] == [(s, s, c) for s, c in shapes]
    assert source.decodings == 3


def test_a_run_that_stops_while_decoding_leaves_no_cache(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(names: Sequence[str], image_size: int, channels: int, *_: object) -> Iterator[Part]:
        yield decode_parallel.decode(names[:2], image_size, channels)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode_in_order", stops)
        with pytest.raises(KeyboardInterrupt):
            source.decode()
    assert source.caches() == []
    assert first_values(source.decode().images) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_a_cache_that_was_cut_off_is_not_used(source: Source, ending: str) -> None:
    source.decode()
    (cache,) = source.cache.glob(f"*{ending}")
    cache.write_bytes(cache.read_bytes()[:-1])
    assert first_values(source.decode().images) == [0, 1, 2, 3, 4]
    assert source.decodings == 2


def test_of_two_that_start_at_once_one_decodes_and_both_have_the_images(source: Source) -> None:
    results: list[Decoded] = []
    threads = [threading.Thread(target=lambda: results.append(source.decode())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.decodings == 1
    assert [first_values(result.images) for result in results] == [[0, 1, 2, 3, 4]] * 4


def test_where_no_cache_can_be_written_the_images_are_decoded_in_memory(source: Source) -> None:
    source.cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"decoded images cannot be cached in .*cache_dir") as warned:
        decoded = source.decode()
    assert first_values(decoded.images) == [0, 1, 2, 3, 4]
    assert len(warned) == 1


def test_a_full_disk_ends_in_memory_and_leaves_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        decoded = source.decode()
    assert first_values(decoded.images) == [0, 1, 2, 3, 4]
    assert source.caches() == []


def test_broken_files_stop_with_all_of_them_listed(tmp_path: Path) -> None:
    difficult = write_difficult_images(tmp_path / "images")
    names = sorted(map(str, difficult.good + difficult.broken))
    with pytest.raises(UserError) as caught:
        decode_images(names, SIZE, 3, root=tmp_path / "images", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"{len(difficult.broken)} of {len(names)} images cannot be read:")
    assert all(f"{path}: " in message for path in difficult.broken)
    assert not any(f"{path}: " in message for path in difficult.good)
    assert "--data.on_broken skip" in message


def test_broken_files_can_be_left_out_now_and_from_the_cache(tmp_path: Path) -> None:
    difficult = write_difficult_images(tmp_path / "images")
    names = sorted(map(str, difficult.good + difficult.broken))
    for _ in range(2):
        decoded = decode_images(
            names, SIZE, 3, root=tmp_path / "images", on_broken="skip", cache_dir=tmp_path / "cache"
        )
        assert [names[position] for position in decoded.kept] == list(map(str, difficult.good))
        assert [error.path for error in decoded.broken] == difficult.broken
        assert all(error.reason for error in decoded.broken)
        for path, pixels in zip(difficult.good, decoded.images, strict=True):
            assert np.array_equal(pixels, read_image(path, SIZE, pixel_range=FULL_RANGE)), path


def test_a_file_that_can_be_read_again_is_not_left_out_for_ever(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str, image_size: int, channels: int, pixel_range: object) -> Pixels:
        if path.endswith("3.bmp"):
            raise BrokenImageError(Path(path), "Permission denied")
        return read_image(path, image_size, channels)

    with monkeypatch.context() as patch:
        patch.setattr(decode_parallel, "read_image", denied)
        with pytest.raises(UserError, match=r"3\.bmp: Permission denied"):
            source.decode()
    assert first_values(source.decode().images) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_files_come_in_their_order_and_the_runs_random_numbers_stay_however_many_processes_decode(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_rng_state()
    monkeypatch.setattr(decode_parallel, "PART_FILES", 3)
    names = [str(tmp_path / f"größe {number}.png") for number in range(40)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(name)
    Path(names[7]).write_bytes(b"")
    Path(names[38]).write_bytes(b"text")
    parts = list(decode_in_order(names, 4, 1, workers))
    assert np.concatenate([pixels for pixels, _ in parts])[:, 0, 0, 0].tolist() == [
        n for n in range(40) if n not in (7, 38)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    reasons = {position: reason for _, broken in parts for position, reason in broken.items()}
    assert reasons == {7: "the file is empty", 38: "it is not an image of a known format"}


def test_a_process_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_parallel, "read_image", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r"decoding images failed after .*a\.png: .*check that memory suffices"):
        list(decode_in_order([str(tmp_path / "a.png")] * 100, SIZE, 3, 2))


def test_a_program_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    program = (
        "import os, sys; from kd_lightning.data.decode_parallel import decode_in_order; "
        "next(decode_in_order([sys.argv[1]] * 2000, 100, 3, 2)); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)  # until no process holds the pipe
    assert ended.returncode == -signal.SIGKILL


def test_processes_are_started_only_for_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert worker_count(500, 10**6) == 1
    assert worker_count(60_000, 10**8) == 8


@pytest.mark.parametrize(("rank", "shown"), [(0, True), (1, False)])
def test_progress_is_shown_by_the_first_process_where_decoding_takes_long(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: int,
    shown: bool,
) -> None:
    times = iter([0.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times, 60.0)))
    monkeypatch.setattr(decode_parallel, "PART_FILES", 1)
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    list(decode_in_order([str(tmp_path / "a.png")] * 3, SIZE, 3, 1))
    output = capsys.readouterr()
    assert output.err == ("Decoding images: 1 of 3, 2 min left\n" if shown else "")
    assert output.out == ""


def test_the_time_left_does_not_count_the_start_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0, 2, 3, 4, 5])  # two seconds until the first image, then one a second
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))
    list(progress.with_progress([1, 1, 1, 1], "Decoding images", 64, int))
    assert capsys.readouterr().err == "Decoding images: 4 of 64, 60 s left\n"


def test_only_a_batchs_rows_are_requested_from_a_large_memory_map(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = source.decode().images
    assert isinstance(images, np.memmap)
    assert row_reader(images) is None  # it stays in memory
    monkeypatch.setattr(read_ahead, "SMALL", 0)
    assert row_reader(np.array(images)) is None
    requested: list[range] = []
    note = SimpleNamespace(madvise=lambda _, start, length: requested.append(range(start, start + length)))
    monkeypatch.setattr(images, "_mmap", note)
    request = row_reader(images)
    assert request is not None
    request(torch.tensor([4, 0]))
    for row, place in zip((4, 0), requested, strict=True):
        begin = images.offset + row * SIZE * SIZE * 3
        assert place.start == begin - begin % mmap.PAGESIZE
        assert place.stop == begin + SIZE * SIZE * 3
