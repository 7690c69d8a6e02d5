"""Which classes are known to work with the fast path: all of this package's, and of a user's those that say so."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fast_cases import NO_MARK
from lightning.pytorch import Callback

import kd_lightning
from kd_lightning.data.augment import HorizontalFlip
from kd_lightning.data.base import ImageDataModule
from kd_lightning.fast.known import unknown
from kd_lightning.fast.reasons import BEFORE_STEPS


def ours(base: type[Any]) -> set[type[Any]]:
    """Return this package's subclasses of a class."""
    for module in pkgutil.walk_packages(kd_lightning.__path__, "kd_lightning."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {kind for kind in subclasses(base) if kind.__module__.startswith("kd_lightning.")}


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from subclasses(kind)


def test_callbacks_of_ours_that_act_in_every_step_are_few_and_made_for_the_fast_path() -> None:
    hooks = [name for name in vars(Callback) if name.startswith(("on_train_batch_", "on_before_", "on_after_"))]
    acting = {kind.__name__ for kind in ours(Callback) for name in hooks if name in vars(kind)}
    measuring = {"EndAtFirstStep", "EpochClock", "ValidationClock", "_TimeSteps"}  # of runs that nobody keeps
    assert acting - measuring == {"EpochLines", "LogGradientNorms", "SaveOnInterrupt"}


def test_no_data_of_ours_changes_how_a_step_uses_the_images() -> None:
    kinds = ours(ImageDataModule)
    assert kinds
    own = {name for kind in kinds for name, value in vars(kind).items() if callable(value) or hasattr(value, "__get__")}
    assert {name for name in own if hasattr(ImageDataModule, name)} <= BEFORE_STEPS


class Own(HorizontalFlip):
    """Subclass of one of our classes, with changes that nobody knows."""


class Marked(Own):
    works_with_fast_path = True


class OfMarked(Marked): ...


class Extra:
    """Class of a package whose name only begins like ours."""

    __module__ = "kd_lightning_extra.networks"


@pytest.mark.parametrize("kind", [HorizontalFlip, Own, Marked, OfMarked, Extra])
def test_a_class_of_a_users_own_is_known_only_where_it_says_so_itself(kind: type[Any]) -> None:
    expected = "" if kind in (HorizontalFlip, Marked) else f"{kind.__name__} {NO_MARK}"
    assert re.fullmatch(expected, "".join(unknown(kind())))
