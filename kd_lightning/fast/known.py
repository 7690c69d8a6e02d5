"""What is known to fit the fast path: exact classes of Lightning and torch, and classes that say it of themselves."""

from collections.abc import Collection, Iterator
from typing import Any

from lightning.pytorch import callbacks, cli
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from torch import nn, optim
from torch.optim import lr_scheduler

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
"""Callbacks that are content with the batches that Lightning sees, and change no step unseen."""

PRECISIONS = (Precision, MixedPrecision, DoublePrecision, HalfPrecision)

OPTIMIZERS = (
    optim.ASGD,
    optim.Adadelta,
    optim.Adafactor,
    optim.Adagrad,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
)
"""Optimizers that evaluate the loss once in a step, before anything else."""

SCHEDULES = (
    cli.ReduceLROnPlateau,
    lr_scheduler.ChainedScheduler,
    lr_scheduler.ConstantLR,
    lr_scheduler.CosineAnnealingLR,
    lr_scheduler.CosineAnnealingWarmRestarts,
    lr_scheduler.CyclicLR,
    lr_scheduler.ExponentialLR,
    lr_scheduler.LambdaLR,
    lr_scheduler.LinearLR,
    lr_scheduler.MultiStepLR,
    lr_scheduler.MultiplicativeLR,
    lr_scheduler.OneCycleLR,
    lr_scheduler.PolynomialLR,
    lr_scheduler.ReduceLROnPlateau,
    lr_scheduler.SequentialLR,
    lr_scheduler.StepLR,
)
"""Schedules that change learning rates and, but for ``cycle_momentum``, nothing else."""

LAYERS = tuple(kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module))
"""torch's own layers: what they read of Python stays as it was built."""

CONSTANT = "torchvision."
"""The library whose layers, too, read nothing of Python but what they were built with."""

MARK = "works_with_fast_path"
"""What a class sets to ``True`` to say that it fits."""

UNKNOWN = "is not known to work with the fast path"

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
)


def says_so(kind: type) -> bool:
    """Return whether a class says of itself that it fits; what it inherits says nothing of what it changed."""
    return vars(kind).get(MARK) is True


def unknown(owner: object, known: Collection[type] = ()) -> Iterator[str]:
    """Give, as clauses, why an object is not known to fit.

    Args:
        owner: Takes part in steps.
        known: Classes that fit beside those that say so.
    """
    kind = type(owner)
    if kind not in known and not says_so(kind) and not kind.__module__.startswith(CONSTANT):
        hint = "" if _is_librarys(kind) else f" ({MARK} = True in it says that it does)"
        yield f"{kind.__name__} {UNKNOWN}{hint}"
    for name, value in getattr(owner, "__dict__", {}).items():
        if _takes_the_place(owner, name, value):
            yield f"an attribute takes the place of {kind.__name__}.{name}"


def own_members(owner: object, base: type, free: Collection[str]) -> Iterator[str]:
    """Give, as clauses, what the classes of an object below ``base`` have replaced of it, but for what is ``free``."""
    for kind in type(owner).__mro__:
        if kind is base or says_so(kind):
            return
        for name, value in vars(kind).items():
            replaces = hasattr(base, name) and (callable(value) or hasattr(value, "__get__"))
            if replaces and name not in free:
                yield f"{kind.__name__} has its own {name}, which {UNKNOWN} ({MARK} = True in it says that it does)"


def hooks(module: nn.Module) -> Iterator[str]:
    """Give, as clauses, the hooks that are called while a module and its parameters work."""
    for part in module.modules():
        for owner in (part, *part.parameters(recurse=False)):
            if any(getattr(owner, name, None) for name in HOOKS):
                yield f"a hook on a {type(part).__name__} {UNKNOWN}"


def _is_librarys(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("lightning", "torch")


def _takes_the_place(owner: object, name: str, value: Any) -> bool:
    """Say whether an attribute of an object is called in place of a method of its class."""
    method = getattr(type(owner), name, None)
    if not (callable(value) and callable(method)):
        return False
    counts_only = getattr(value, "_wrapped_by_lr_sched", False)  # a schedule notes that its optimizer was called
    return not (counts_only and getattr(value, "__wrapped__", None) is method)
