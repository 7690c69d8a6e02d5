"""Classes that are known to work with the fast path: ours, exact ones of Lightning and torch, and marked ones."""

from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any

from lightning.pytorch import callbacks, cli
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from torch import nn, optim
from torch.optim import lr_scheduler


def _subclasses(module: ModuleType, base: type) -> tuple[type, ...]:
    return tuple(kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base))


CALLBACKS = (
    callbacks.EarlyStopping,
    callbacks.GradientAccumulationScheduler,
    callbacks.LearningRateMonitor,
    callbacks.ModelCheckpoint,
    callbacks.ModelSummary,
    callbacks.OnExceptionCheckpoint,
    callbacks.RichModelSummary,
    callbacks.RichProgressBar,
    callbacks.TQDMProgressBar,
    callbacks.Timer,
    cli.SaveConfigCallback,
)
"""Callbacks that need only the batches that Lightning sees, and do not change the other steps."""

PRECISIONS = (Precision, MixedPrecision, DoublePrecision, HalfPrecision)

OPTIMIZERS = tuple(kind for kind in _subclasses(optim, optim.Optimizer) if kind is not optim.LBFGS)
"""torch's own optimizers that evaluate the loss once in a step, before anything else."""

SCHEDULES = (cli.ReduceLROnPlateau, *_subclasses(lr_scheduler, lr_scheduler.LRScheduler))
"""Schedules that change learning rates and, except for ``cycle_momentum``, nothing else."""

LAYERS = _subclasses(nn, nn.Module)
"""torch's own layers: the Python values that they read never change."""

CONSTANT = "torchvision."
"""A library whose layers, too, read no Python values that change."""

OURS = "kd_lightning."
"""This package: every class of it that runs in a step works with the fast path; the tests list them."""

MARK = "works_with_fast_path"
"""The class attribute that is ``True`` where a class of a user's own works with the fast path."""

UNKNOWN = "is not known to work with the fast path"

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
)


def is_known(kind: type) -> bool:
    """Return whether a class is ours or itself has the mark; neither covers what a subclass of it changes."""
    return kind.__module__.startswith(OURS) or vars(kind).get(MARK) is True


def unknown(owner: object, known: Collection[type] = ()) -> Iterator[str]:
    """Yield, as clauses, why an object is not known to work with the fast path.

    Args:
        owner: An object that runs in steps.
        known: Classes that work besides ours and the marked ones.
    """
    kind = type(owner)
    if kind not in known and not is_known(kind) and not kind.__module__.startswith(CONSTANT):
        hint = "" if _is_from_library(kind) else f" (set {MARK} = True in the class if it does)"
        yield f"{kind.__name__} {UNKNOWN}{hint}"
    for name, value in getattr(owner, "__dict__", {}).items():
        if _replaces_method(owner, name, value):
            yield f"an attribute takes the place of {kind.__name__}.{name}"


def own_members(owner: object, base: type, free: Collection[str]) -> Iterator[str]:
    """Yield, as clauses, the members of ``base`` that an object's classes override, except those in ``free``."""
    for kind in type(owner).__mro__:
        if kind is base or is_known(kind):
            return
        for name, value in vars(kind).items():
            replaces = hasattr(base, name) and (callable(value) or hasattr(value, "__get__"))
            if replaces and name not in free:
                yield f"{kind.__name__} has its own {name}, which {UNKNOWN} (set {MARK} = True in the class if it does)"


def hooks(module: nn.Module) -> Iterator[str]:
    """Yield, as clauses, the hooks on a module and its parameters."""
    for part in module.modules():
        for owner in (part, *part.parameters(recurse=False)):
            if any(getattr(owner, name, None) for name in HOOKS):
                yield f"a hook on a {type(part).__name__} {UNKNOWN}"


def _is_from_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("lightning", "torch")


def _replaces_method(owner: object, name: str, value: Any) -> bool:
    """Return whether an attribute of an object is called in place of a method of its class."""
    method = getattr(type(owner), name, None)
    if not (callable(value) and callable(method)):
        return False
    counts_only = getattr(value, "_wrapped_by_lr_sched", False)  # a schedule counts the calls of its optimizer
    return not (counts_only and getattr(value, "__wrapped__", None) is method)
