import os
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import files_of_at_most
from tiny import TinyNetwork
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks import DeepNN, LightNN, Network
from kd_lightning.networks.weights import load_model, load_weights, save_weights


def test_a_file_brings_back_the_network_and_what_prediction_needs(tmp_path: Path) -> None:
    network = TinyNetwork(num_classes=5, width=6)
    save_weights(tmp_path / "net.pth", network, info_of(network))
    loaded, info = load_model(tmp_path / "net.pth")
    images = torch.randn(2, 3, 8, 8)
    assert isinstance(loaded, TinyNetwork)
    assert torch.equal(loaded(images), network.eval()(images))
    assert info == info_of(network)


@pytest.mark.parametrize("network", [DeepNN(image_size=8), LightNN(num_classes=3, in_channels=1, image_size=12)])
def test_a_bare_state_dict_is_recognized_by_its_shapes(tmp_path: Path, network: Network) -> None:
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    loaded, info = load_model(tmp_path / "bare.pth")
    assert type(loaded) is type(network)
    assert loaded.arguments == network.arguments
    assert info.class_names[0] == ("airplane" if network.num_classes == 10 else "class 0")
    assert len(info.mean) == network.in_channels


def test_the_regressor_in_a_file_of_the_reference_notebook_is_ignored(tmp_path: Path) -> None:
    network = LightNN(image_size=8)
    torch.save(network.state_dict() | {"regressor.0.weight": torch.zeros(1)}, tmp_path / "notebook.pth")
    assert isinstance(load_model(tmp_path / "notebook.pth")[0], LightNN)


class Evil:
    """Would make a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mknod, (str(self.target),)


def test_pickled_code_is_refused_and_never_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="pickled code, which is never run"):
        load_model(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {}}, tmp_path / "empty.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("text", "list", "empty", "other", "missing"):
        with pytest.raises(UserError, match=f"{name}.pth"):
            load_model(tmp_path / f"{name}.pth")


def test_weights_for_another_network_or_other_classes_are_refused(tmp_path: Path) -> None:
    network = LightNN(num_classes=3, image_size=8)
    save_weights(tmp_path / "net.pth", network, info_of(network))
    with pytest.raises(UserError, match="weights of LightNN, not of DeepNN"):
        load_weights(DeepNN(num_classes=3, image_size=8), tmp_path / "net.pth")
    with pytest.raises(UserError, match="was trained on 3 classes, the data has 4; fine-tune"):
        load_weights(LightNN(num_classes=4, image_size=8), tmp_path / "net.pth")
    with pytest.raises(UserError, match="another network than LightNN"):
        load_weights(LightNN(num_classes=3, image_size=16), tmp_path / "net.pth")


def test_a_network_that_is_not_known_is_not_imported(tmp_path: Path) -> None:
    network = LightNN(image_size=8)
    info = info_of(network).to_plain() | {"network": "antigravity.Net"}
    torch.save({"model_info": info, "state_dict": network.state_dict()}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"antigravity\.Net, which is not known here"):
        load_model(tmp_path / "net.pth")


def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    network = LightNN(image_size=8)
    path = tmp_path / "net.pth"
    save_weights(path, network, info_of(network))
    before = path.read_bytes()
    with files_of_at_most(1000), pytest.raises(UserError, match=r"cannot write .*net\.pth: File too large"):
        save_weights(path, network, info_of(network))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = LightNN(image_size=8)
    next(network.parameters()).data[0, 0, 0, 0] = torch.nan
    save_weights(tmp_path / "net.pth", network, info_of(network))
    with pytest.raises(UserError, match=r"not finite \(in features\.0\.weight\)"):
        load_model(tmp_path / "net.pth")
    with pytest.raises(UserError, match="not finite"):
        load_weights(LightNN(image_size=8), tmp_path / "net.pth")
