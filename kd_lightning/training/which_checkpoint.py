"""The file that a command measures or resumes from."""

from collections.abc import Mapping
from pathlib import Path

from jsonargparse import Namespace

from kd_lightning.data.published import local_file
from kd_lightning.errors import UserError
from kd_lightning.networks.weights import read_content
from kd_lightning.training.config_files import first_config, newest_first
from kd_lightning.training.console import print_rank_zero


def choose_checkpoint(own: Namespace, command: str, runs: Path) -> Path | None:
    """Write the checkpoint's path into a command's config, and print it.

    Args:
        own: The command's config; ``ckpt_path`` is a file, ``best`` or ``last``, the newest run's that has one.
        command: ``fit``, ``validate`` or ``test``.
        runs: Folder of the config's runs, or one run's own folder.

    Returns:
        The file to measure where it holds only weights, which Lightning cannot read; ``ckpt_path`` is ``None`` then.

    Raises:
        UserError: There is no such file, or none is given to a command that measures one.
    """
    given = own.get("ckpt_path")
    if given is None:
        if command != "fit":
            raise UserError(f"{command} measures a checkpoint, but none is given; {_advice(runs, own)}.")
        return None
    path = newest_checkpoint(runs, given) if given in ("best", "last") else local_file(given)
    if path is None:
        raise UserError(f"there is no {given} checkpoint; {_advice(runs, own)}.")
    content = read_content(path)
    own.ckpt_path = str(path)
    print_rank_zero(f"Checkpoint: {path}")
    holds = content if isinstance(content, Mapping) else {}
    whole = "pytorch-lightning_version" in holds
    only_weights = not whole or ("loops" in holds and "optimizer_states" not in holds)  # of save_weights_only
    if command == "fit" and only_weights:
        raise UserError(
            f"{path} holds only weights, and fit resumes from a whole checkpoint; give --ckpt_path a run's last.ckpt."
        )
    if command != "fit" and not whole:
        own.ckpt_path = None
        return path
    return None


def newest_checkpoint(runs: Path, name: str) -> Path | None:
    """Return the checkpoint ``best`` or ``last`` of the newest run that has one."""
    checkpoints = (run / "checkpoints" / f"{name}.ckpt" for run in newest_first(runs))
    return next((path for path in checkpoints if path.is_file()), None)


def _advice(runs: Path, own: Namespace) -> str:
    newest = newest_checkpoint(runs, "last") or newest_checkpoint(runs, "best")
    if newest is not None:
        return f"add --ckpt_path {newest}, the newest"
    config = first_config(own)
    train = "fit" if config is None else f"fit --config {config}"
    return f"no run in {runs} has one yet: train with `kd-lightning {train}`, or add --ckpt_path FILE"
