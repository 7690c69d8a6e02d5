"""Finding configs by their bare names."""

import argparse
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, Namespace

from kd_lightning.errors import UserError
from kd_lightning.training.class_change import drop_replaced
from kd_lightning.training.yaml_check import read_yaml

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""The configs that come with the project: in the installed package, or beside it in a checkout."""


def find_config(name: str) -> Path:
    """Find a config in the working directory, then in ``./configs``, then among the shipped ones.

    Raises:
        UserError: There is none.
    """
    folders = Path(), Path("configs"), SHIPPED
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    there = sorted({path.name for folder in folders for path in folder.glob("*.yaml")})
    if near := get_close_matches(name if Path(name).suffix else f"{name}.yaml", there, n=2, cutoff=0.7):
        raise UserError(f"there is no config '{name}'; did you mean {' or '.join(near)}?")
    raise UserError(
        f"there is no config '{name}', here or in ./configs; `kd-lightning list configs` shows the shipped ones."
    )


def first_config(own: Namespace) -> Path | None:
    """Return the path of the first config that a command was given, as its resolved config has it."""
    configs = own.get("config") or []
    return Path(configs[0].relative) if configs else None


def run_name(config: Path) -> str:
    """Return the name under which a config's runs are kept; a run's own ``config.yaml`` keeps its run's name."""
    run = own_run(config)
    return config.stem if run is None else run.resolve().parent.name


def own_run(config: Path) -> Path | None:
    """Return the folder of the run whose own ``config.yaml`` this is; ``None`` for any other config."""
    is_own = config.name == "config.yaml" and config.resolve().parent.name.startswith("version_")
    return config.parent if is_own else None


def newest_first(runs: Path) -> list[Path]:
    """Return the runs ``version_N`` in a folder, the newest first; a run's own folder gives only itself."""
    if _version(runs) >= 0:
        return [runs]
    return sorted(runs.glob("version_*"), key=_version, reverse=True)


def _version(run: Path) -> int:
    number = run.name.removeprefix("version_")
    return int(number) if number.isdecimal() and number != run.name else -1


class ConfigFile(ActionConfigFile):
    """``--config`` that also takes the bare name of a config."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Read the config into the namespace."""
        path = find_config(values)
        drop_replaced(namespace, read_yaml(path))
        try:
            super().__call__(parser, namespace, str(path), option_string)  # type: ignore[no-untyped-call]
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:  # out of jsonargparse
            raise UserError(f"the config {path} has a value of another kind than its key takes; fix it.") from error
