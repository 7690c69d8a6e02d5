"""A small network trained on real images (scikit-learn's digits), for the tests of the export."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kd_lightning.data.normalize import Normalization
from kd_lightning.export.verify import Variant
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import LightNN, Network

VARIANTS: tuple[Variant, ...] = ("fp32", "dynamic", "static", "fp16")

TRAIN_IMAGES = 1297  # the other 500 are for the test


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return all images (1797, 8, 8, 1), uint8, and their labels."""
    data = load_digits()
    images = (data.images * 15.9375).astype(np.uint8)  # 0 to 16 -> 0 to 255
    return torch.from_numpy(images)[..., None], torch.from_numpy(data.target.astype(np.int64))


def train_split() -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return images[:TRAIN_IMAGES], labels[:TRAIN_IMAGES]


def held_out_split() -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return images[TRAIN_IMAGES:], labels[TRAIN_IMAGES:]


def info_of(network: Network) -> ModelInfo:
    """Return the metadata of a network for digits."""
    path = f"{type(network).__module__}.{type(network).__qualname__}"
    return ModelInfo(path, network.arguments, tuple("0123456789"), (0.3,), (0.35,), network.image_size, "digits", 0.9)


def trained_network() -> LightNN:
    """Return a LightNN that knows the digits (about 95 %); a new copy at each call."""
    network = LightNN(num_classes=10, in_channels=1, image_size=8)
    network.load_state_dict(_trained_weights())
    return network


def sensitive_network() -> LightNN:
    """Return the same network with a huge weight, on a feature that is always 0, in each row of its last layer."""
    network = trained_network()
    state = network.state_dict()  # shares its memory with the network
    state["classifier.0.weight"][0] = 0
    state["classifier.0.bias"][0] = -1
    state["classifier.3.weight"][:, 0] = 1000
    return network


@cache
def _trained_weights() -> dict[str, Tensor]:
    images, labels = train_split()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network trains faster on one thread
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = LightNN(num_classes=10, in_channels=1, image_size=8)
        inputs = normalized(network, images)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(8):
            for rows in torch.randperm(len(images)).chunk(20):
                optimizer.zero_grad()
                torch.autograd.backward(cross_entropy(network(inputs[rows]), labels[rows]))
                optimizer.step()
    torch.set_num_threads(threads)
    return network.state_dict()


def normalized(network: Network, images: Tensor) -> Tensor:
    """Return images (N, 8, 8, 1) as the network sees them: (N, 1, 8, 8)."""
    info = info_of(network)
    return Normalization(info.mean, info.std).apply(images.permute(0, 3, 1, 2)).contiguous()


@torch.inference_mode()
def torch_logits(network: Network, images: Tensor) -> Tensor:
    """Return the network's logits for images (N, 8, 8, 1) in evaluation mode."""
    return network.eval()(normalized(network, images))  # type: ignore[no-any-return]


class AlwaysDropping(Network):
    """Applies dropout in evaluation, too."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(images + 1, 0.5, training=True).flatten(1)[:, : self.num_classes]
