import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from difficult_images import picture
from export_example import info_of, trained_network
from PIL import Image

import kd_lightning
from kd_lightning import predict_image
from kd_lightning.data.class_names import CIFAR10_CLASSES
from kd_lightning.data.normalize import IMAGENET
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.inference.images import FULL_RANGE, BrokenImageError, Pixels, read_image
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats, Predictor
from kd_lightning.networks import DeepNN, LightNN, Network
from kd_lightning.networks.weights import INFO_KEY, save_weights
from kd_lightning.prediction import one_image
from kd_lightning.prediction.predictors import open_predictor
from kd_lightning.prediction.stream import Prediction, predict_files

MODELS = ("NNDeep.pth", "bare.pth", "last.ckpt", "ImagePredictor.onnx", "inside.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a network in every kind of file, and images as PNG and JPEG in ``EvalDataset``."""
    folder = tmp_path_factory.mktemp("work")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = DeepNN().eval()
    info = ModelInfo(network.class_path, network.arguments, CIFAR10_CLASSES, *IMAGENET, 32, pixel_range=FULL_RANGE)
    save_weights(folder / "NNDeep.pth", network, info)
    torch.save(network.state_dict(), folder / "bare.pth")
    torch.save(_checkpoint(network, info), folder / "last.ckpt")
    export_onnx(network, info, folder / "ImagePredictor.onnx")
    export_onnx(network, info, folder / "inside.onnx", preprocess="inside")
    (folder / "EvalDataset").mkdir()
    random = np.random.default_rng(0)
    for number, ending in enumerate((".png", ".jpg", ".jpeg", ".png")):
        pixels = random.integers(0, 256, (40 + number, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "EvalDataset" / f"image_{number}{ending}")
    return folder


def _checkpoint(network: Network, info: ModelInfo) -> dict[str, object]:
    state_dict = {f"network.{name}": value for name, value in network.state_dict().items()}
    return {"pytorch-lightning_version": "2.6.6", "state_dict": state_dict, INFO_KEY: info.to_plain()}


def _reference_notebooks_loop(model_path: str) -> list[dict[str, Any]]:
    eval_folder = "./EvalDataset"
    results = []
    for filename in sorted(os.listdir(eval_folder)):  # noqa: PTH208 - as in the reference notebook
        if filename.endswith((".png", ".jpg", ".jpeg")):
            image_path = os.path.join(eval_folder, filename)  # noqa: PTH118 - as in the reference notebook
            predicted_label, probabilities = predict_image(image_path, model_path)
            results.append(
                {"image": filename, "predicted_class": predicted_label, "probabilities": probabilities.tolist()}
            )
    return results


@pytest.mark.parametrize("model", MODELS)
def test_the_reference_notebooks_loop_gives_the_same_with_every_kind_of_file(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _, probabilities = predict_image("EvalDataset/image_0.png", model)
    assert isinstance(probabilities, np.ndarray if model.endswith(".onnx") else torch.Tensor)
    expected, results = _reference_notebooks_loop("NNDeep.pth"), _reference_notebooks_loop(model)
    assert [result["image"] for result in results] == ["image_0.png", "image_1.jpg", "image_2.jpeg", "image_3.png"]
    assert [result["predicted_class"] for result in results] == [result["predicted_class"] for result in expected]
    values = np.array([result["probabilities"] for result in results])
    np.testing.assert_allclose(values, [result["probabilities"] for result in expected], atol=1e-5)
    labels = [CIFAR10_CLASSES[index] for index in values.argmax(axis=1)]
    assert [result["predicted_class"] for result in results] == labels


def test_probabilities_are_the_softmax_of_the_networks_logits(folder: Path) -> None:
    image, network = folder / "EvalDataset" / "image_0.png", DeepNN().eval()
    network.load_state_dict(torch.load(folder / "bare.pth", weights_only=True))
    pixels = torch.from_numpy(read_image(image, 32)).double() / 255
    mean, std = torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])
    with torch.inference_mode():
        logits = network(((pixels - mean) / std).float().permute(2, 0, 1)[None])
    _, probabilities = predict_image(image, folder / "NNDeep.pth")
    np.testing.assert_allclose(probabilities.tolist(), logits[0].softmax(0).tolist(), atol=1e-6)


def test_a_grey_network_is_given_grey_pixels(fp32: Path, tmp_path: Path) -> None:
    network = trained_network()
    save_weights(tmp_path / "grey.pth", network, info_of(network))
    Image.fromarray(picture()).save(tmp_path / "colour.png")
    label, probabilities = predict_image(tmp_path / "colour.png", tmp_path / "grey.pth")
    same_label, same = predict_image(tmp_path / "colour.png", fp32)
    assert label == same_label
    np.testing.assert_allclose(probabilities.tolist(), same.tolist(), atol=1e-6)


def test_a_model_is_opened_again_only_when_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(path: str) -> Predictor:
        opened.append(path)
        return open_predictor(path)

    monkeypatch.setattr(one_image, "open_predictor", counted)
    image, model = tmp_path / "image.png", tmp_path / "bare.pth"
    Image.fromarray(picture()).save(image)
    torch.save(LightNN(num_classes=2).state_dict(), model)
    before = predict_image(image, model)[1]
    assert predict_image(image, model)[1].tolist() == before.tolist()
    assert len(opened) == 1
    size, time = model.stat().st_size, model.stat().st_mtime_ns
    torch.save(LightNN(num_classes=2).state_dict(), model)
    os.utime(model, ns=(time, time))
    assert model.stat().st_size == size
    assert predict_image(image, model)[1].tolist() != before.tolist()
    assert len(opened) == 2


def test_an_image_beyond_the_range_of_the_training_images_is_clipped_with_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    for name, value in (("white.tif", 65535), ("beyond.tif", 2**20)):
        Image.fromarray(np.full((32, 32), value, np.int32)).save(tmp_path / name)
    white = predict_image(tmp_path / "white.tif", folder / "NNDeep.pth")[1]
    with pytest.warns(UserWarning, match=r"beyond\.tif has values outside of the range of the training images"):
        beyond = predict_image(tmp_path / "beyond.tif", folder / "NNDeep.pth")[1]
    assert beyond.tolist() == white.tolist()


def test_weights_without_torch_are_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kd_lightning.prediction.torch_predictor", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"NNDeep\.pth needs torch, which is not installed; give the run's \.onnx file"):
        open_predictor(folder / "NNDeep.pth")


def test_importing_the_package_loads_nothing_and_unknown_names_are_refused() -> None:
    program = "import sys, kd_lightning; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'predict_images'"):
        _ = kd_lightning.predict_images


class _Stub(Predictor):
    """A predictor that reads an image's value from its name, and counts the images that are in memory."""

    def __init__(self) -> None:
        super().__init__("", ModelInfo("", {}, ("low", "high"), (0.5,), (0.5,), 4))
        self.batches: list[int] = []
        self.most_held = 0
        self._read: list[weakref.ref[Pixels]] = []

    def probabilities(self, images: Pixels) -> Floats:
        self.batches.append(len(images))
        high = images[:, 0, 0, 0].astype(np.float32) / 255
        return np.stack([1 - high, high], axis=1)

    def read(self, path: Path) -> Pixels:
        if path.name.startswith("broken"):
            raise BrokenImageError(path, "broken")
        pixels = np.full((4, 4, 1), int(path.name), np.uint8)
        self._read.append(weakref.ref(pixels))
        self.most_held = max(self.most_held, sum(image() is not None for image in self._read))
        return pixels


def _values(results: Iterable[Prediction | BrokenImageError]) -> list[float]:
    return [255 * float(result.probabilities[1]) for result in results if isinstance(result, Prediction)]


@pytest.mark.parametrize(("files", "batch_size", "threads"), [(1, 32, 2), (100, 8, 3), (96, 32, 5)])
def test_images_come_back_in_order_in_full_batches(files: int, batch_size: int, threads: int) -> None:
    stub = _Stub()
    results = list(predict_files(stub, [str(number) for number in range(files)], batch_size, threads))
    np.testing.assert_allclose(_values(results), np.arange(files), atol=1e-4)
    full, rest = divmod(files, batch_size)
    assert stub.batches == [batch_size] * full + [rest] * (rest > 0)


def test_a_broken_image_is_reported_in_its_place_and_the_others_are_predicted() -> None:
    stub = _Stub()
    results = list(predict_files(stub, ["3", "broken 1", "5", "broken 2", "broken 3", "7"], 2, 2))
    assert [result.path.name if isinstance(result, BrokenImageError) else result.image for result in results] == [
        *("3", "broken 1", "5", "broken 2", "broken 3", "7")
    ]
    np.testing.assert_allclose(_values(results), [3, 5, 7], atol=1e-4)
    assert stub.batches == [1, 1, 1]


def test_two_batches_at_most_are_in_memory() -> None:
    stub = _Stub()
    results = predict_files(stub, [str(number % 256) for number in range(400)], 10, 4)
    assert len(_values(results)) == 400
    assert stub.most_held <= 20


def test_decoding_ends_when_the_caller_stops() -> None:
    threads = set(threading.enumerate())
    results = predict_files(_Stub(), [str(number % 256) for number in range(100)], 10, 4)
    next(results)
    results.close()
    assert set(threading.enumerate()) == threads


def test_the_likeliest_classes_come_first_and_ties_keep_their_order() -> None:
    prediction = Prediction("", np.array([0.2, 0.3, 0.3, 0.2], np.float32), ("a", "b", "c", "d"))
    assert [name for name, _ in prediction.best(3)] == ["b", "c", "a"]
    assert len(prediction.best(99)) == 4
