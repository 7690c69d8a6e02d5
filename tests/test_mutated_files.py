"""Untrusted files give their answer or one sentence, whatever is in them, in bounded memory."""

import faulthandler
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from compare_example import example_run
from difficult_images import picture as drawn
from export_example import info_of
from mutate import Mutate, archived, graph, picture, some_bytes, text
from PIL import Image

from kd_lightning.compare.store import read_run, write_run
from kd_lightning.compare.study import read_request
from kd_lightning.data.decode import decode_images
from kd_lightning.errors import UserError
from kd_lightning.inference.image_files import is_image
from kd_lightning.inference.images import read_image, wide_values
from kd_lightning.inference.onnx_predictor import OnnxPredictor
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights
from kd_lightning.prediction.torch_predictor import TorchPredictor
from kd_lightning.teacher import FileTeacher
from kd_lightning.teacher.outputs_file import write_outputs
from kd_lightning.teacher.table import TableFile
from kd_lightning.training.config_files import SHIPPED, ConfigFile
from kd_lightning.training.parser import Parser

QUICK, MANY = 25, 1000
MAX_SECONDS, MAX_GIGABYTES = 10, 2


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        file: Makes a good one in a folder.
        read: Reads it as the product does.
        mutates: How it is changed, besides in its bytes.
    """

    file: Callable[[Path], Path]
    read: Callable[[Path], object]
    mutates: tuple[Mutate, ...] = ()


def network() -> LightNN:
    torch.manual_seed(0)
    return LightNN(num_classes=3, in_channels=1, image_size=8)


def safetensors(folder: Path) -> Path:
    save_weights(folder / "a.safetensors", network(), info_of(network()))
    return folder / "a.safetensors"


def pth(folder: Path) -> Path:
    save_weights(folder / "a.pth", network(), info_of(network()))
    return folder / "a.pth"


def legacy(folder: Path) -> Path:
    torch.save(network().state_dict(), folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


def checkpoint(folder: Path) -> Path:
    weights = {f"network.{name}": value for name, value in network().state_dict().items()}
    optimizer = torch.optim.Adam(network().parameters()).state_dict()
    content = {"state_dict": weights, "pytorch-lightning_version": "2.6.0", "model_info": info_of(network()).to_plain()}
    torch.save(content | {"epoch": 1, "optimizer_states": [optimizer], "callbacks": {}}, folder / "a.ckpt")
    return folder / "a.ckpt"


def exported(folder: Path) -> Path:
    """Write a network of one layer as this project's files are: exporting one takes seconds."""
    node, number = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        node("AveragePool", ["images"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        node("Relu", ["pooled"], ["positive"]),
        node("Flatten", ["positive"], ["flat"], axis=1),
        node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    values = {"weight": np.ones((3, 16), np.float32), "bias": np.zeros(3, np.float32)}
    made = onnx.helper.make_graph(
        nodes,
        "main_graph",
        [onnx.helper.make_tensor_value_info("images", number, ["batch", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", number, ["batch", 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, info_of(network()).to_metadata())
    onnx.save(model, folder / "a.onnx")
    return folder / "a.onnx"


def shipped(name: str) -> Callable[[Path], Path]:
    def copied(folder: Path) -> Path:
        (folder / "a.yaml").write_bytes((SHIPPED / name).read_bytes())
        return folder / "a.yaml"

    return copied


def image(name: str, mode: str) -> Callable[[Path], Path]:
    def saved(folder: Path) -> Path:
        Image.fromarray(drawn()).convert(mode).save(folder / name)
        return folder / name

    return saved


def table(folder: Path) -> Path:
    file = TableFile("key", (50, 6), torch.float32)
    file.write([torch.arange(300.0).view(50, 6)])
    return file.path


def decoded(folder: Path) -> Path:
    Image.fromarray(drawn()).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"")
    names = [str(folder / "a.png"), str(folder / "b.png")]
    decode_images(names, 8, 3, root=folder, on_broken="skip", cache_dir=folder / "c")
    return next(path for path in (folder / "c").iterdir() if path.suffix == ".npy")


def run(folder: Path) -> Path:
    write_run(example_run(0, 0.5, images=20, epochs=2), folder / "run.json")
    return folder / "run.json"


def run_array(folder: Path) -> Path:
    return run(folder).with_suffix(".npy")


def outputs(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path, logits = folder / name, torch.arange(60.0).view(20, 3)
        about = {"classes": ["a", "b", "c"], "labels": [0] * 20, "digest": "0a", "image_size": 8}
        write_outputs(path, [logits], (20, 3), about)
        if path.suffix == ".npy":
            np.save(path, logits.numpy())
        elif path.suffix == ".csv":
            np.savetxt(path, logits.numpy(), delimiter=",", header="a,b,c", comments="")
        return path

    return write


def read_weights(path: Path) -> None:
    TorchPredictor(path).probabilities(np.zeros((1, 8, 8, 1), np.uint8))


def read_onnx(path: Path) -> None:
    predictor = OnnxPredictor(path, threads=1, bounded=True)
    predictor.probabilities(np.zeros((1, predictor.info.image_size, predictor.info.image_size, 1), np.uint8))


def read_wide(path: Path) -> None:
    is_image(str(path.rename(path.with_suffix(""))))
    path.with_suffix("").rename(path)
    wide_values(path)
    read_image(path, 16, pixel_range=(0, 255))


def read_config(path: Path) -> None:
    parser = Parser(exit_on_error=True)
    parser.add_argument("--config", action=ConfigFile)
    for name in ("seed_everything", "data", "model", "trainer", "ckpt_path"):
        parser.add_argument(f"--{name}", type=object)
    parser.parse_args(["--config", str(path)])


def read_table(_: Path) -> None:
    found = TableFile("key", (50, 6), torch.float32).read()
    assert found is None or torch.equal(found, torch.arange(300.0).view(50, 6))


def read_decoded(path: Path) -> None:
    folder = path.parents[1]
    names = [str(folder / "a.png"), str(folder / "b.png")]
    found = decode_images(names, 8, 3, root=folder, on_broken="skip", cache_dir=folder / "c")
    assert np.array_equal(found.images[0], read_image(folder / "a.png", 8))


KINDS = {
    "pth": Kind(pth, read_weights, (archived, archived, archived)),
    "safetensors": Kind(safetensors, read_weights),
    "legacy": Kind(legacy, read_weights),
    "ckpt": Kind(checkpoint, read_weights, (archived, archived, archived)),
    "onnx": Kind(exported, read_onnx, (graph, graph, graph)),
    "config": Kind(shipped("cosine.yaml"), read_config, (text, text)),
    "study": Kind(shipped("notebook_table.yaml"), lambda path: read_request(["--config", str(path)]), (text, text)),
    "png": Kind(image("a.png", "RGBA"), lambda path: read_image(path, 16), (picture,)),
    "jpeg": Kind(image("a.jpg", "RGB"), lambda path: read_image(path, 16)),
    "tiff": Kind(image("a.tif", "F"), read_wide),
    "webp": Kind(image("a.webp", "RGBA"), lambda path: read_image(path, 16)),
    "table": Kind(table, read_table),
    "decoded": Kind(decoded, read_decoded),
    "npz": Kind(outputs("a.npz"), lambda path: FileTeacher(str(path))),
    "npy": Kind(outputs("a.npy"), lambda path: FileTeacher(str(path))),
    "csv": Kind(outputs("a.csv"), lambda path: FileTeacher(str(path)), (text,)),
    "run": Kind(run, read_run, (text,)),
    "run array": Kind(run_array, lambda path: read_run(path.with_suffix(".json"))),
}


def peak() -> float:
    """Return the peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def faults(kind: Kind, cases: int, folder: Path) -> Iterator[str]:
    """Yield a description of each mutated file that gives neither an answer nor a ``UserError``."""
    path = kind.file(folder)
    good = path.read_bytes()
    for case in range(cases):
        random = Random(case)
        mutate = random.choice([some_bytes, *kind.mutates])
        path.unlink(missing_ok=True)
        path.write_bytes(mutate(random, good))
        before, start = peak(), time.monotonic()
        try:
            kind.read(path)
        except UserError as error:
            if not 0 < len(str(error)) < 5000:
                yield f"case {case}: a message of {len(str(error))} characters"
        except BaseException as error:
            yield f"case {case}: {error!r:.300}"
        if time.monotonic() - start > MAX_SECONDS:
            yield f"case {case}: {time.monotonic() - start:.0f} s"
        if peak() - before > MAX_GIGABYTES:
            yield f"case {case}: {peak() - before:.1f} GB"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_read_or_refused_in_a_sentence(folder: Path, name: str) -> None:
    assert list(faults(KINDS[name], QUICK, folder)) == []


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_thousand_mutated_files_of_each_kind(folder: Path, name: str) -> None:
    faulthandler.dump_traceback_later(600, exit=True)
    found = list(faults(KINDS[name], int(os.environ.get("CASES", MANY)), folder))
    faulthandler.cancel_dump_traceback_later()
    assert found == []
