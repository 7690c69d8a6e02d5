"""The web page: written without a browser, and used in a real one."""

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from compare_browser import Browser, browser
from export_example import held_out_split, info_of, train_split, trained_network
from numpy.typing import NDArray
from PIL import Image
from tools import missing
from web_images import write_images

from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.quantize import quantize_static
from kd_lightning.export.verify import normalized_batches
from kd_lightning.export.web import Example, write_web_page
from kd_lightning.export.web.runtime import FILES, PACKAGE, runtime_files
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats, OnnxPredictor
from kd_lightning.networks import LightNN

RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB", Path(__file__).parents[2] / "node_modules" / "onnxruntime-web"))
GREY = torch.tensor((0.299, 0.587, 0.114))
HOSTILE = "</script><img src=x onerror=alert(1)>"
COUNT = "document.querySelectorAll('.result').length"
FINISHED = """new Promise(done => {
    const timer = setInterval(() => {
        if (!['ready', 'failed'].includes(document.body.dataset.state) || COUNT < least) return;
        clearInterval(timer);
        done(document.body.dataset.state);
    }, 20);
})""".replace("COUNT", COUNT)
RESULTS = """[...document.querySelectorAll('.result')].map(card => ({
    file: card.querySelector('.file').textContent,
    label: card.querySelector('h2')?.firstChild.textContent,
    pills: [...card.querySelectorAll('.pill')].map(pill => pill.textContent),
    bars: [...card.querySelectorAll('.bars li')].map(bar => bar.querySelectorAll('.values span').length),
    seen: [...card.querySelectorAll('.seen')].flatMap(canvas =>
        Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)),
}))"""


class Net(NamedTuple):
    """A network's files by name."""

    files: dict[str, Path]
    info: ModelInfo


class Shown(NamedTuple):
    """What the page shows of nineteen and of a hundred images, and the names of the files that it loads."""

    early: list[str]
    results: list[dict[str, Any]]
    speeds: list[str]
    loaded: list[str]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def runtime() -> Path:
    if not (RUNTIME / "dist" / FILES[0]).is_file():
        missing(f"onnxruntime-web in {RUNTIME}; unpack {PACKAGE} and set ONNXRUNTIME_WEB to its folder")
    return RUNTIME


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Net:
    """A network for colour images, with the normalization outside, in fp32 and int8."""
    network = LightNN(num_classes=10, in_channels=3, image_size=8)
    state = trained_network().state_dict()
    state["features.0.weight"] = state["features.0.weight"] * GREY[:, None, None]
    network.load_state_dict(state)
    info = replace(info_of(network), mean=(0.3,) * 3, std=(0.35,) * 3)
    folder = tmp_path_factory.mktemp("colour")
    export_onnx(network, info, folder / "fp32.onnx")
    batches = normalized_batches(train_split()[0][:256].expand(-1, -1, -1, 3).numpy(), info)
    quantize_static(folder / "fp32.onnx", folder / "int8.onnx", batches, reduce_range=True)
    return Net({"fp32": folder / "fp32.onnx", "static": folder / "int8.onnx"}, info)


@pytest.fixture(scope="module")
def grey(inside: Path) -> Net:
    """A network for grey images, with the normalization inside, only in fp32."""
    return Net({"fp32": inside}, info_of(trained_network()))


@pytest.fixture(scope="module")
def paths(colour: Net, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A hundred images whose two likeliest classes do not tie: a pixel that is rounded otherwise decides nothing."""
    candidates = write_images(tmp_path_factory.mktemp("images"), 110)
    likeliest = np.sort(python_probabilities(colour.files["fp32"], candidates), axis=1)
    clear = likeliest[:, -1] - likeliest[:, -2] > 0.02
    return [path for path, is_clear in zip(candidates, clear, strict=True) if is_clear][:100]


@pytest.fixture(scope="module")
def shown(
    chromium: Browser, runtime: Path, colour: Net, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Shown:
    """The page on a plain web server, given a hundred images."""
    folder = tmp_path_factory.mktemp("site")
    write_web_page(folder, colour.files, colour.info, runtime=runtime)
    with served(folder) as origin:
        chromium.problems, chromium.requests = [], []
        chromium.send("Page.navigate", url=f"{origin}/")
        shown_speeds = "[...document.querySelectorAll('.speed')].map(card => card.innerText)"
        choose(chromium, paths[81:])
        early = chromium.run(shown_speeds)
        choose(chromium, paths[:81])
        results = chromium.run(RESULTS)
        speeds = chromium.run(shown_speeds)
        assert chromium.problems == []
        loaded = [url for url in chromium.requests if not url.startswith(("data:", "blob:"))]
        return Shown(early, results, speeds, [url.removeprefix(f"{origin}/") for url in loaded])


@pytest.fixture(scope="module")
def grey_page(runtime: Path, grey: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two examples; the second is labelled with a wrong class."""
    images = held_out_split()[0].numpy()
    labels = OnnxPredictor(grey.files["fp32"]).probabilities(images[:2]).argmax(axis=1).astype(str)
    names = (labels[0], "9" if labels[1] != "9" else "8")
    examples = [Example(pixels, name) for pixels, name in zip(images, names, strict=False)]
    return write_web_page(tmp_path_factory.mktemp("page"), grey.files, grey.info, examples=examples, runtime=runtime)


@pytest.fixture
def tiny_runtime(tmp_path: Path) -> Path:
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "package" / "dist" / name).write_text(f"/*! the licence */ {name}")
    return tmp_path / "package"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def finished(chromium: Browser, count: int = 0) -> str:
    """Wait until the page shows ``count`` results; return its state."""
    state: str = chromium.run(FINISHED.replace("least", str(count)))
    return state


def choose(chromium: Browser, paths: list[Path]) -> None:
    """Choose files as a person does, and wait until all are classified."""
    assert finished(chromium) == "ready"
    before = chromium.run(COUNT)
    root = chromium.send("DOM.getDocument")["root"]["nodeId"]
    field = chromium.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    chromium.send("DOM.setFileInputFiles", nodeId=field, files=[str(path) for path in paths])
    assert finished(chromium, before + len(paths)) == "ready"


def python_probabilities(path: Path, images: list[Path]) -> Floats:
    predictor = OnnxPredictor(path)
    return predictor.probabilities(np.stack([predictor.read(image) for image in images]))


def python_labels(path: Path, images: list[Path]) -> list[str]:
    return [str(index) for index in python_probabilities(path, images).argmax(axis=1)]  # the classes are digits


def seen(result: dict[str, Any], info: ModelInfo) -> NDArray[np.uint8]:
    rgba = np.array(result["seen"], np.uint8).reshape(info.image_size, info.image_size, 4)
    return rgba[..., : info.in_channels]


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called npm first on the path."""
    (folder / "bin").mkdir()
    (folder / "bin" / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_the_page_gives_the_labels_that_python_gives_on_100_images(
    shown: Shown, colour: Net, paths: list[Path]
) -> None:
    assert len(paths) == 100
    assert [result["file"] for result in shown.results] == [path.name for path in paths]
    fp32 = [result["label"] for result in shown.results]
    int8 = [
        pill[0].removeprefix("int8: ") if (pill := result["pills"]) else result["label"] for result in shown.results
    ]
    assert len(set(fp32)) == 10
    assert fp32 == python_labels(colour.files["fp32"], paths)
    probabilities = python_probabilities(colour.files["static"], paths)
    # The output has few steps, so that two classes may tie: another CPU may round them the other way.
    assert [row.max() - row[int(label)] < 0.05 for row, label in zip(probabilities, int8, strict=True)] == [True] * 100


def test_the_network_sees_the_pixels_that_it_sees_in_python(shown: Shown, colour: Net, paths: list[Path]) -> None:
    read, exact = OnnxPredictor(colour.files["fp32"]).read, 0
    for path, result in zip(paths, shown.results, strict=True):
        difference = int(np.abs(seen(result, colour.info).astype(int) - read(path)).max())
        # A browser averages the blocks of a large JPEG; Pillow's decoder leaves out their fine waves.
        assert difference <= (3 if path.suffix == ".jpg" else 1), path.name
        exact += difference == 0
    assert exact > 50


def test_fp32_and_int8_are_side_by_side_and_their_speed_is_shown_from_20_images_on(shown: Shown) -> None:
    for fp32, int8 in (shown.early, shown.speeds):
        assert fp32.startswith("fp32\n")
        assert int8.startswith("int8\n")
        assert "times smaller" in int8
    assert all("Speed after 20 images, 1 to go" in text and " ms" not in text for text in shown.early)
    assert "same label on" in shown.early[1]
    assert "of 100 images" in shown.speeds[1]
    for speed in shown.speeds:
        assert re.search(r"\d\.\d+ ms an image", speed)
    assert [result["bars"] for result in shown.results] == [[2] * 5] * 100
    assert sorted(shown.loaded) == ["", "networks.js", "runtime.js"]


def test_a_double_click_opens_the_page_and_examples_are_classified_when_chosen(
    chromium: Browser, grey_page: Path, grey: Net
) -> None:
    chromium.open(grey_page, width=390, height=844)
    assert finished(chromium) == "ready"
    assert chromium.run(RESULTS) == []
    chromium.run("[...document.querySelectorAll('#examples button')].reverse().forEach(button => button.click())")
    assert finished(chromium, 2) == "ready"
    right, wrong = chromium.run(RESULTS)
    assert right["pills"] == ["✓ right"]
    assert wrong["pills"][0].startswith("✗ is ")
    for result, pixels in zip((right, wrong), held_out_split()[0].numpy(), strict=False):
        assert np.array_equal(seen(result, grey.info), pixels)
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert chromium.problems == []


def test_a_network_for_grey_images_sees_colours_as_python_does_and_names_what_is_no_image(
    chromium: Browser, grey_page: Path, grey: Net, paths: list[Path], tmp_path: Path
) -> None:
    chromium.open(grey_page)
    (tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:40])
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "wide.png")
    some = paths[3:40:3]
    choose(chromium, [tmp_path / "broken.png", tmp_path / "wide.png", *some])
    broken, wide, *results = chromium.run(RESULTS)[: len(some) + 2]
    assert (broken["file"], broken.get("label")) == ("broken.png", None)
    assert (wide["file"], wide.get("label")) == ("wide.png", None)
    assert [result["label"] for result in results] == python_labels(grey.files["fp32"], some)
    read = OnnxPredictor(grey.files["fp32"]).read
    for path, result in zip(some, results, strict=True):
        assert np.abs(seen(result, grey.info).astype(int) - read(path)).max() <= 1
    chromium.run("document.getElementById('clear').click()")
    assert chromium.run(RESULTS) == []


def test_light_and_dark_follow_the_system_until_the_reader_chooses(chromium: Browser, grey_page: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    chromium.open(grey_page, scheme="light")
    light = chromium.run(background)
    chromium.open(grey_page, scheme="dark")
    assert chromium.run(background) != light
    chromium.run("document.getElementById('theme').click()")
    assert chromium.run(background) == light
    chromium.run("localStorage.clear()")


def test_hostile_names_are_shown_as_text(chromium: Browser, runtime: Path, grey: Net, tmp_path: Path) -> None:
    info = replace(grey.info, class_names=(HOSTILE,) * 10, data=HOSTILE)
    example = Example(held_out_split()[0][0].numpy(), HOSTILE)
    chromium.open(write_web_page(tmp_path, {"x-1 $y": grey.files["fp32"]}, info, examples=[example], runtime=runtime))
    assert finished(chromium) == "ready"
    chromium.run("document.querySelector('#examples button').click()")
    assert finished(chromium, 1) == "ready"
    (result,) = chromium.run(RESULTS)
    assert result["label"] == HOSTILE
    assert chromium.run("document.querySelector('.speed h2').textContent") == "x-1 $y"
    assert HOSTILE in chromium.run("document.querySelector('.eyebrow').textContent")
    assert chromium.run("document.images.length") == 1
    assert chromium.problems == []


def test_a_page_without_its_runtime_shows_what_is_missing(
    chromium: Browser, tiny_runtime: Path, grey: Net, tmp_path: Path
) -> None:
    page = write_web_page(tmp_path / "page", grey.files, grey.info, runtime=tiny_runtime)
    (tmp_path / "page" / "runtime.js").unlink()
    chromium.open(page)
    assert finished(chromium) == "failed"
    assert "runtime.js" in chromium.run("document.getElementById('status').textContent")


def test_the_page_is_three_files_and_the_runtime_keeps_its_licence(
    grey: Net, tiny_runtime: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"missing\.onnx"):
        write_web_page(tmp_path, {"fp32": tmp_path / "missing.onnx"}, grey.info, runtime=tiny_runtime)
    page = write_web_page(tmp_path / "new" / "page", grey.files, grey.info, runtime=tiny_runtime)
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["index.html", "networks.js", "runtime.js"]
    assert (page.parent / "runtime.js").read_text().startswith("/*! the licence */\n")
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text


def test_npm_s_package_gives_the_runtime(tiny_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.add(tiny_runtime, "package")
    fake_npm(tmp_path, monkeypatch, f'test "$2" = {PACKAGE} && cp {tmp_path}/made.tgz "$4"')
    assert runtime_files() == runtime_files(tiny_runtime)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "npm error code ENOTFOUND"),
        ("exit 0", "it wrote no archive"),
        ('echo torn > "$4/made.tgz"', "not a gzip file"),
    ],
)
def test_an_npm_that_fails_is_reported_with_its_reason_and_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake_npm(tmp_path, monkeypatch, script)
    with pytest.raises(UserError, match=f"{reason}.*--runtime FOLDER"):
        runtime_files()


def test_without_npm_or_its_files_in_a_folder_nothing_is_written(
    grey: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm is not installed.*--runtime FOLDER"):
        write_web_page(tmp_path / "page", grey.files, grey.info)
    with pytest.raises(UserError, match=f"--runtime {tmp_path} holds no dist/{FILES[0]}"):
        write_web_page(tmp_path / "page", grey.files, grey.info, runtime=tmp_path)
    assert list(tmp_path.iterdir()) == []
