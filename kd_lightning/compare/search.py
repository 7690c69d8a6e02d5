"""A search for a row's setting by Optuna, in spaces too large for a grid."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kd_lightning.compare.choice import Tried
from kd_lightning.compare.row_config import Search, Setting, as_text
from kd_lightning.errors import UserError

AT_ONCE = 4
"""Settings that are proposed before their results are known; it is fixed, so that results do not depend on ``jobs``."""

DIGITS = 4
"""Significant digits of a proposed number, so that a report can name what was trained."""


def import_optuna() -> Any:
    """Import Optuna.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module("optuna")
    except ImportError as error:
        raise UserError('a row with a `search` needs Optuna; install it by `pip install -e ".[optuna]"`.') from error


def search(space: Search, path: Path, try_settings: Callable[[list[Setting], int], list[Tried]]) -> tuple[Tried, ...]:
    """Try the settings that Optuna's sampler (TPE) proposes, a few at once.

    Its proposals depend only on the results so far. So a search that was stopped proposes the same settings again,
    whose finished runs are reused, and goes on.

    Args:
        space: The space and the number of trials.
        path: The file of Optuna's storage (a journal), which is written again; Optuna's own tools read it.
        try_settings: Tries settings, the first of which has the given number among all.

    Returns:
        The settings in the order in which they were tried.
    """
    optuna = import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler, study_name=path.stem, direction="maximize")
    found: list[Tried] = []
    while len(found) < space.trials:
        trials = [study.ask() for _ in range(min(AT_ONCE, space.trials - len(found)))]
        settings = [{name: _propose(trial, name, of) for name, of in space.space.items()} for trial in trials]
        for trial, tried in zip(trials, try_settings(settings, len(found) + 1), strict=True):
            failed = optuna.trial.TrialState.FAIL if tried.failure else None
            study.tell(trial, None if failed else tried.accuracy, failed)
            found.append(tried)
    return tuple(found)


def _propose(trial: Any, name: str, values: Any) -> Any:
    """Return the value that a trial proposes for an option."""
    if isinstance(values, list):
        texts = [as_text(value) for value in values]
        return values[texts.index(trial.suggest_categorical(name, texts))]
    low, high, log = values["low"], values["high"], values.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return min(max(float(f"{trial.suggest_float(name, low, high, log=log):.{DIGITS}g}"), low), high)
