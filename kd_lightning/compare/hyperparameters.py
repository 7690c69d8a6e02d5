"""Hyper-parameters in TensorBoard's HParams tab: those in which the rows of a study differ, and the usual ones."""

from collections.abc import Mapping
from typing import Any

from kd_lightning.callbacks.hyperparameters import storable

ALWAYS = ("model.optimizer.lr", "data.batch_size", "trainer.max_epochs")


def hyperparameters(configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the hyper-parameters of each row under short names.

    Args:
        configs: Resolved configs by the row's name.
    """
    rows = {row: _flat(config) for row, config in configs.items()}
    names = sorted({name for values in rows.values() for name in values})
    reported = [name for name in names if name in ALWAYS or len({repr(row.get(name)) for row in rows.values()}) > 1]
    return {row: {name: values[name] for name in reported if name in values} for row, values in rows.items()}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the numbers, texts and booleans in nested dicts, and classes by their bare names."""
    if not isinstance(values, dict):
        return {prefix: storable(values)} if isinstance(values, bool | int | float | str) else {}
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name == "class_path":
            result[prefix] = value.rpartition(".")[2]
        else:
            result |= _flat(value, prefix if name == "init_args" else f"{prefix}.{name}".lstrip("."))
    return result
