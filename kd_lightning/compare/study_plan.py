"""The plan of a study: it is fixed before the first run, so that verdicts keep their error rate.

To look at results and then decide how many runs to add, or which rows to keep, raises the rate of false positives
above the test's level. So verdicts are given at the planned numbers of seeds and for the planned rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class StudyPlan:
    """What a study fixes before its first run.

    Attributes:
        first_seed: Its first seed.
        looks: Numbers of seeds at which verdicts are given, rising; the last is the planned number.
        rows: Each compared row's name, and a digest of all that its difference to the baseline depends on.
        started: Number of seeds requested so far; it may be more than planned.
        exploratory: Why it gives no verdict at all; empty where it does.
    """

    first_seed: int
    looks: tuple[int, ...]
    rows: dict[str, str]
    started: int = 0
    exploratory: str = ""

    @property
    def seeds(self) -> range:
        """The planned seeds."""
        return range(self.first_seed, self.first_seed + self.looks[-1])

    def reason(self, row: str, digest: str) -> str:
        """Return why a row has no verdict in this plan; empty where the plan has it."""
        if self.exploratory or self.rows.get(row) == digest:
            return self.exploratory
        if row not in self.rows:
            return "it was not in the study's plan"
        return "it is not what was planned (it, its teacher or the baseline has another config, data, code or machine)"

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from what ``asdict`` gave, or raise ``TypeError``, ``ValueError`` or ``KeyError``."""
        looks = tuple(int(look) for look in values["looks"])
        rows = {str(name): str(digest) for name, digest in values["rows"].items()}
        if not looks or sorted({0, *looks}) != [0, *looks]:
            raise ValueError("looks must rise")
        whole = {name: int(values[name]) for name in ("first_seed", "started")}
        return cls(looks=looks, rows=rows, exploratory=str(values["exploratory"]), **whole)
