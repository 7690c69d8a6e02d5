"""The choice of a row's setting, by its validation accuracy on seeds that the study's verdicts do not use."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Self

from kd_lightning.compare.row_config import Setting, setting_text

FIRST_SEED = 1_000_000
"""Tuning seeds are this much above a study's own, so that no number of seeds reaches them."""


def tuning_seeds(first_seed: int, number: int) -> range:
    """Return the seeds on which the settings of a study are compared."""
    return range(FIRST_SEED + first_seed, FIRST_SEED + first_seed + number)


@dataclass(frozen=True)
class Tried:
    """A setting that was tried.

    Attributes:
        setting: Its options and their values.
        accuracies: Validation accuracy in [0, 1] of each tuning seed; none where a run failed.
        failure: Why it failed; empty where it did not.
    """

    setting: Setting
    accuracies: tuple[float, ...] = ()
    failure: str = ""

    @property
    def text(self) -> str:
        """The setting in words."""
        return setting_text(self.setting)

    @property
    def accuracy(self) -> float:
        """Mean validation accuracy in [0, 1]; NaN where it failed."""
        return mean(self.accuracies) if self.accuracies else math.nan


@dataclass(frozen=True)
class Choice:
    """The settings that were tried for a row, of which the best on validation images is taken.

    Attributes:
        among: Digest of all that the choice depends on.
        seeds: The tuning seeds.
        tried: The settings in their order; at least one did not fail.
    """

    among: str
    seeds: tuple[int, ...]
    tried: tuple[Tried, ...]

    @property
    def best(self) -> Tried:
        """The setting with the highest mean accuracy, the first of those that are equal."""
        return max((tried for tried in self.tried if tried.accuracies), key=lambda tried: tried.accuracy)

    def to_plain(self) -> dict[str, Any]:
        """Return values that JSON accepts, the chosen setting included for the reader."""
        return {**asdict(self), "chosen": self.best.setting}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from what ``to_plain`` gave, or raise ``TypeError``, ``ValueError`` or ``KeyError``."""
        tried = tuple(
            Tried(dict(of["setting"]), tuple(map(float, of["accuracies"])), str(of["failure"]))
            for of in values["tried"]
        )
        found = cls(str(values["among"]), tuple(map(int, values["seeds"])), tried)
        if found.best.setting != values["chosen"]:
            raise ValueError
        return found
