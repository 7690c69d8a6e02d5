"""Weight files: written atomically, read without executing code."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_lightning.data.published import local_file
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network
from kd_lightning.networks.bare_files import assumed_info, recognize
from kd_lightning.networks.building import build_network, find_network
from kd_lightning.networks.safetensors_file import ENDING, read_safetensors, to_safetensors
from kd_lightning.networks.torch_file import read_file

INFO_KEY = "model_info"
"""The key of ``ModelInfo`` in ``.pth`` files and checkpoints."""

ENDINGS = (".pth", ENDING)
"""How the names of files of weights end."""

PLAIN_KEY = "plain_network"
"""The key of the fused, plain network's weights in a checkpoint."""

REFUSED_KEY = "refused"
"""The key of the reason why a checkpoint's weights do not reproduce the measured network."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys of state dicts in files."""

PARTS = ("student.", "teacher.")
"""Prefixes of two networks' weights in one checkpoint of mdistiller."""


def save_weights(
    path: str | Path, network: Network, info: ModelInfo, check: Callable[[Path], None] | None = None
) -> None:
    """Write the weights and all that prediction needs, only tensors and plain values.

    Args:
        path: The file to write, a ``.pth`` or ``.safetensors``.
        network: The network.
        info: Its description for prediction.
        check: Checks the file before it is saved; where it raises, nothing is saved.

    Raises:
        UserError: The file cannot be written.
    """
    state_dict = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    content = to_safetensors(state_dict, info) if Path(path).suffix == ENDING else _to_pth(state_dict, info)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        if check is not None:
            check(temporary)


def _to_pth(state_dict: Mapping[str, Tensor], info: ModelInfo) -> bytes:
    content = io.BytesIO()  # torch would hide the system's errors if it wrote the file itself
    torch.save({INFO_KEY: info.to_plain(), "state_dict": state_dict}, content)
    return content.getvalue()  # a view would crash some Python 3.12 where writing fails


def load_model(path: str | Path, network_class: str | None = None) -> tuple[Network, ModelInfo]:
    """Build the network that a file describes and load its weights.

    Args:
        path: A ``.pth``, ``.safetensors`` or ``.ckpt`` of ours, or a bare state dict of ``DeepNN`` or ``LightNN``
            (recognized by its shapes; CIFAR-10's classes and ImageNet's normalization are assumed).
        network_class: Import path of the network's class, where it is not imported yet.

    Returns:
        The network on the CPU, in evaluation mode, and its description.

    Raises:
        UserError: The file is missing, damaged, holds pickled code, or is for an unknown network.
    """
    state_dict, info = read_weights(path)
    if info is None:
        info = parse_info(recognize(state_dict, path).to_plain(), path)
    kind = find_network(info.network, network_class, str(path))
    return network_of(kind, info, state_dict, path), info


def load_weights(network: Network, path: str | Path) -> ModelInfo:
    """Load a file's weights into an existing network.

    Returns:
        The network's description in the file; for a bare state dict, the assumed one.

    Raises:
        UserError: The file is missing, damaged, holds pickled code, or its weights are for another network.
    """
    state_dict, info = read_weights(path)
    if info is not None and info.network != network.class_path:
        expected, found = type(network).__name__, info.network.rpartition(".")[2]
        raise UserError(f"{path} holds weights of {found}, not of {expected}; name a {expected} file or that network.")
    if info is not None and len(info.class_names) != network.num_classes:
        raise UserError(
            f"{path} was trained on {len(info.class_names)} classes, the data has {network.num_classes}; "
            "fine-tune it for these, or take another: docs/teachers.md#fine-tuning."
        )
    _load(network, state_dict, path)
    return info or assumed_info(network.class_path, network.arguments)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], ModelInfo | None]:
    """Read a network's state dict and description, without executing code from the file.

    Args:
        path: The file, or ``https://HOST/FILE#sha256=CHECKSUM``, as wherever weights are read.

    Raises:
        UserError: The file is missing, damaged, holds pickled code or has no state dict.
    """
    content = read_content(local_file(path))
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not weights; give a .pth or .ckpt file of a network."
        )
    if REFUSED_KEY in content:
        raise UserError(f"{path} cannot be used without its run: {content[REFUSED_KEY]}")
    info = parse_info(content[INFO_KEY], path) if INFO_KEY in content else None
    state_dict = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if "pytorch-lightning_version" in content:
        plain = content.get(PLAIN_KEY)
        state_dict = plain if isinstance(plain, Mapping) else network_weights(state_dict)
    names = plain_names(state_dict)
    if not names or len(names) < len(state_dict) or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise UserError(f"{path} holds no weights of a network; give a .pth or .ckpt file written by fit.")
    if any(value.nbytes > value.untyped_storage().nbytes() for value in state_dict.values()):
        raise UserError(f"{path} names more values than it holds; give a .pth or .ckpt file written by fit.")
    return {name: state_dict[key] for name, key in names.items()}, info


def read_content(path: Path) -> Any:
    """Read a file of weights or a checkpoint; a ``.safetensors`` gives what a ``.pth`` gives.

    Raises:
        UserError: The file is missing, damaged or holds pickled code.
    """
    if path.suffix != ENDING or not path.is_file():
        return read_file(path)
    state_dict, info = read_safetensors(path)
    return {"state_dict": state_dict, **({} if info is None else {INFO_KEY: info})}


def network_weights(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's part of a task's state dict, under the network's own names."""
    prefix = "network."
    return {key.removeprefix(prefix): state_dict[key] for key in state_dict if str(key).startswith(prefix)}


def plain_names(names: Iterable[Any]) -> dict[str, Any]:
    """Return names of weights without the prefixes of ``DataParallel`` and ``torch.compile``, with the original names.

    ``{"module.features.0.weight": ...}`` gives ``{"features.0.weight": "module.features.0.weight"}``.
    """
    plain = {str(name).replace("_orig_mod.", ""): name for name in names}
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): key for name, key in plain.items()}
    return plain


def parse_info(values: Any, path: str | Path) -> ModelInfo:
    """Return a file's description of its network; raise ``UserError`` where it is not valid."""
    try:
        return ModelInfo.from_plain(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f" ({error})" if isinstance(error, ValueError) else ""
        raise UserError(
            f"{path} does not describe its network correctly{reason}; write the file again with fit."
        ) from error


def network_of(
    kind: Callable[..., Network], info: ModelInfo, state_dict: Mapping[str, Tensor], path: str | Path
) -> Network:
    """Build the network that a file describes, with its weights, in evaluation mode.

    Args:
        kind: Builds it from its arguments.
        info: Its description in the file.
        state_dict: Its weights.
        path: The file, for messages.

    Raises:
        UserError: The class does not take the arguments, or the weights are not the network's.
    """
    try:
        network = build_network(kind, info.arguments, state_dict)
    except Exception as error:  # the class may be the user's, the arguments are the file's
        if isinstance(error, UserError) and isinstance(error.__cause__, ImportError):
            raise  # it names the missing package
        reason = " ".join(str(error).split())
        raise UserError(f"{path} does not fit the network {info.network} ({reason}); train it again.") from error
    _load(network, state_dict, path)
    return network.eval()


def _load(network: Network, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Load a state dict; refuse one of another network or of a training that failed."""
    own = network.state_dict()
    names = plain_names(own)
    weights = {key: value for key, value in state_dict.items() if not key.startswith("regressor.")}
    weights = _fitting_part(weights, {name: own[key].shape for name, key in names.items()}, path)
    if names.keys() != weights.keys() or any(own[names[key]].shape != weights[key].shape for key in names):
        raise UserError(
            f"{path} holds weights of another network than {type(network).__name__}"
            f"({', '.join(f'{key}={value}' for key, value in network.arguments.items())}); "
            "name a file that was trained with this network and data."
        )
    broken = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(
            f"{path} holds numbers that are not finite (in {broken[0]}), so its training has failed; "
            "train it again with a lower learning rate."
        )
    own.update({names[key]: value for key, value in weights.items()})  # with the layers' versions, which files omit
    network.load_state_dict(own)


def _fitting_part(weights: dict[str, Tensor], shapes: Mapping[str, torch.Size], path: str | Path) -> dict[str, Tensor]:
    """Return the student's or the teacher's weights, whichever fits; all weights where neither does."""
    parts = [
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        for prefix in PARTS
    ]
    fitting = [part for part in parts if {name: value.shape for name, value in part.items()} == shapes]
    if len(fitting) == 2 and any(not torch.equal(fitting[0][name], fitting[1][name]) for name in shapes):
        raise UserError(
            f"{path} holds a student and a teacher, which both fit this network; give the file of one of them, such as "
            "mdistiller's student_best."
        )
    return fitting[0] if fitting else weights
