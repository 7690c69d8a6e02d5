"""Model files at an address: downloaded once, checked, and taken wherever a model file is taken."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from file_server import FileServer
from PIL import Image
from tiny import TinyNetwork
from weights_example import info_of

from kd_lightning.cli import main
from kd_lightning.data.published import local_file
from kd_lightning.errors import UserError
from kd_lightning.networks.weights import save_weights
from kd_lightning.prediction.one_image import predict_image

NAME = "teacher.safetensors"


@pytest.fixture(autouse=True)
def own_cache_and_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    network = TinyNetwork(num_classes=4)
    save_weights(tmp_path / NAME, network, info_of(network))
    with FileServer((tmp_path / NAME).read_bytes()) as running:
        yield running


def address(server: FileServer, way: str = "plain", query: str = "") -> str:
    return f"{server.source(way)}/files/{NAME}{query}#sha256={hashlib.sha256(server.body).hexdigest()}"


def test_a_file_is_downloaded_once_and_then_used_without_a_network(server: FileServer) -> None:
    first = local_file(address(server, query="?download=true"))
    assert (first.name, first.read_bytes()) == (NAME, server.body)
    url, _, checksum = address(server, "missing").partition("#sha256=")
    assert local_file(f"{url}#sha256={checksum.upper()}") == first
    assert len(server.requests) == 1


def test_other_bytes_are_refused_and_not_kept(server: FileServer) -> None:
    with pytest.raises(
        UserError, match=rf"(?s){NAME} could not be downloaded.*wrong bytes \(SHA-256 [0-9a-f]+ instead of"
    ):
        local_file(address(server, "wrong"))
    assert local_file(address(server)).read_bytes() == server.body


@pytest.mark.parametrize("ending", ["", "#sha256=", "#sha256=12ab", "#md5=" + 32 * "a"])
def test_an_address_without_a_checksum_is_refused_with_the_way_to_it(server: FileServer, ending: str) -> None:
    plain = f"{server.source('plain')}/{NAME}"
    with pytest.raises(UserError, match=rf"give {plain}#sha256=\.\.\., where `curl -sL {plain} \| sha256sum` prints"):
        local_file(plain + ending)
    assert server.requests == []


def test_a_published_teacher_teaches_and_the_run_names_its_address(
    server: FileServer, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--data=tiny.TinyDataModule", "--data.count=64", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    tiny += ["--trainer.enable_progress_bar=false", "--model.network=tiny.TinyNetwork", "--files.onnx=null"]
    teacher = [
        "--model.teacher=Teacher",
        "--model.teacher.network=tiny.TinyNetwork",
        f"--model.teacher.weights={address(server)}",
    ]
    names = ["--data.normalize.mean=[0.1,0.1,0.1]", "--data.normalize.std=[0.2,0.2,0.2]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiny.TinyDataModule.class_names", info_of(TinyNetwork()).class_names)
        assert main(["fit", "--model=Distill", "--model.losses={kd: SoftTargets}", *tiny, *teacher, *names]) == 0
    assert f"Teacher: {address(server)} (TinyNetwork trained on x" in capsys.readouterr().out
    config = yaml.safe_load(Path("lightning_logs/Distill/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["teacher"]["init_args"]["weights"] == address(server)
    assert len(server.requests) == 1


def test_export_and_predict_take_an_address(
    server: FileServer, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save("a.png")
    assert main(["export", f"--model={address(server)}", "--variants=[fp32]", "--measure_speed=false"]) == 0
    assert Path("teacher.onnx").is_file()
    assert main(["predict", "a.png", f"--model={address(server)}"]) == 0
    assert "kind " in capsys.readouterr().out
    server.body = Path("teacher.onnx").read_bytes()
    published = address(server).replace(".safetensors", ".onnx")
    assert predict_image("a.png", published)[0] == predict_image("a.png", "teacher.onnx")[0]


def test_a_download_for_prediction_needs_no_torch() -> None:
    heavy = "{'torch', 'lightning', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys, kd_lightning.data.download; assert not {heavy}"], check=True)
