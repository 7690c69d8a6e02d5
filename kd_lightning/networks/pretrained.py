"""torchvision's weights: downloaded once, checked, and read without executing code."""

import re
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from rich.console import Console
from torch import Tensor, nn

from kd_lightning.digest import file_digest
from kd_lightning.errors import UserError
from kd_lightning.networks.libraries import reason
from kd_lightning.networks.torch_file import read_file

OTHER_PIXELS = ("googlenet", "inception_v3")
"""Networks whose weights expect another normalization than all others."""


def load_pretrained(body: nn.Module, name: str, weights: str, image_size: int) -> None:
    """Load torchvision's weights into a network, except those that have another shape in it.

    That is the last layer, where the number of classes differs, and a first convolution of another size.

    Args:
        body: The network as torchvision builds it.
        name: Its name.
        weights: torchvision's name of the weights.
        image_size: Height and width of an image in pixels, to which a ViT's positions are resized.

    Raises:
        UserError: There are no such weights, or they cannot be downloaded.
    """
    state = _state_dict(_downloaded(find_url(name, weights)), name)
    if name.startswith("vit_"):
        from torchvision.models.vision_transformer import interpolate_embeddings

        state = interpolate_embeddings(image_size, body.patch_size, state)
    own = body.state_dict()
    first, last = next(iter(own)), list(own)[-1].rpartition(".")[0]
    may_differ = {first, f"{last}.weight", f"{last}.bias"}
    for key in may_differ & state.keys() & own.keys():
        if state[key].shape != own[key].shape:
            del state[key]
    try:
        # layers fill in what older files lack
        missing, unexpected = body.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _other_network(name, weights) from error
    if unexpected or set(missing) - may_differ:
        raise _other_network(name, weights)


def _other_network(name: str, weights: str) -> UserError:
    return UserError(
        f"the weights {weights} are not those of {name} as this version of torchvision builds it; choose others, or "
        "leave weights out."
    )


def find_url(name: str, weights: str) -> str:
    """Return the URL of torchvision's weights of a whole classifier with the usual normalization."""
    from torchvision import models

    if name in OTHER_PIXELS:
        raise UserError(
            f"the weights of {name} are for another normalization than all others; leave weights out, or choose "
            "another network."
        )
    members = models.get_model_weights(name).__members__
    known = {key: member.url for key, member in members.items() if member.meta["categories"] is not None}
    if weights not in known:
        raise UserError(f"torchvision has no weights '{weights}' of {name}; set weights to one of {', '.join(known)}.")
    return str(known[weights])


def _downloaded(url: str) -> Path:
    """Return the file with weights, in torch's download folder; its hash must match its name."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    path = folder / Path(urlsplit(url).path).name
    named = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    assert named is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):
            if not path.exists():
                Console(stderr=True).print(f"Downloading {url} to {path}", markup=False, soft_wrap=True)
                torch.hub.download_url_to_file(url, str(path), named[1])
        found = file_digest(path)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"cannot get {url} ({reason(error)}); put the file at {path} yourself, or leave weights out."
        ) from error
    if not found.startswith(named[1]):
        raise UserError(
            f"{path} is damaged: its SHA-256 does not begin with {named[1]}; remove it, and it is downloaded again."
        )
    return path


def _state_dict(path: Path, name: str) -> dict[str, Tensor]:
    """Read a state dict; rename DenseNet's layers, whose weights were saved under older names."""
    state = read_file(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no weights of {name}; remove it, and it is downloaded again.")
    if name.startswith("densenet"):
        for key in list(state):
            state[re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key)] = state.pop(key)
    return state
