"""The stage before a study's planned runs: the settings of its rows are tried, and the best ones chosen.

A choice uses validation images of seeds that the study does not compare. So the runs that are compared, and the test
images, have no part in it, and the verdicts need no correction for it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kd_lightning.compare.choice import Choice, Tried
from kd_lightning.compare.digests import choice_digest
from kd_lightning.compare.row_config import Setting
from kd_lightning.compare.rows import PlannedRow, plan_setting
from kd_lightning.compare.runner import Results, RunName
from kd_lightning.compare.search import import_optuna, search
from kd_lightning.compare.store import read_run
from kd_lightning.compare.study import Request
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.errors import UserError


@dataclass(frozen=True)
class Tuning:
    """What it takes to try settings.

    Attributes:
        request: The study.
        rows: Its rows, the teacher first.
        seeds: The tuning seeds.
        run: Does the runs of some settings with these seeds.
    """

    request: Request
    rows: Sequence[PlannedRow]
    seeds: Sequence[int]
    run: Callable[[Sequence[PlannedRow]], Results]

    @property
    def teacher(self) -> PlannedRow | None:
        """The study's teacher."""
        return next((row for row in self.rows if row.role == "teacher"), None)

    def choose(self, plan: StudyPlan) -> list[PlannedRow]:
        """Choose the settings that the plan has not chosen yet, and return the rows with their settings.

        Raises:
            UserError: All settings of a row failed, or Optuna is missing.
        """
        among = {row.title: choice_digest(row, self.rows, self.request.study) for row in self.rows if row.settings}
        found = {name: choice for name, choice in plan.choices.items() if choice.among == among.get(name)}
        missing = [row for row in self.rows if row.settings and row.title not in found]
        if any(row.row.search for row in missing):
            import_optuna()
        grids = [one for row in missing if row.row.grid for one in row.settings]
        results = self.run(grids) if grids else Results()
        for row in missing:
            tried = self._search(row) if row.row.search else self._of_grid(row, results)
            if all(one.failure for one in tried):
                raise UserError(
                    f"all settings of the row '{row.title}' failed, as by: {tried[0].failure}; the same command tries "
                    "them again."
                )
            found[row.title] = Choice(among[row.title], tuple(self.seeds), tried)
        return [self._chosen(row, found[row.title]) if row.settings else row for row in self.rows]

    def _of_grid(self, row: PlannedRow, results: Results) -> tuple[Tried, ...]:
        of_row = zip(row.row.settings, row.settings, strict=True)
        return tuple(self._measured(setting, planned, results) for setting, planned in of_row)

    def _search(self, row: PlannedRow) -> tuple[Tried, ...]:
        assert row.row.search is not None
        path = self.request.output / "search" / f"{row.row.folder}.log"
        return search(row.row.search, path, lambda settings, first: self._try(row, settings, first))

    def _try(self, row: PlannedRow, settings: Sequence[Setting], first: int) -> list[Tried]:
        """Try settings of a search; one that cannot be built has failed."""
        planned, failures = dict[int, PlannedRow](), dict[int, str]()
        for number, setting in enumerate(settings):
            try:
                planned[number] = plan_setting(row, self.request, self.teacher, setting, first + number)
            except UserError as error:
                failures[number] = str(error)
        results = self.run(list(planned.values())) if planned else Results()
        return [
            Tried(setting, failure=failures[number])
            if number in failures
            else self._measured(setting, planned[number], results)
            for number, setting in enumerate(settings)
        ]

    def _measured(self, setting: Setting, planned: PlannedRow, results: Results) -> Tried:
        names = [RunName(planned.title, seed) for seed in self.seeds]
        failures = [results.failures[name] for name in names if name in results.failures]
        if failures:
            return Tried(setting, failure=failures[0])
        accuracies = tuple(read_run(results.files[name]).curves.val_accuracy[-1] for name in names)
        if not all(map(math.isfinite, accuracies)):
            return Tried(setting, failure="its validation accuracy is not a number")
        return Tried(setting, accuracies)

    def _chosen(self, row: PlannedRow, choice: Choice) -> PlannedRow:
        chosen = plan_setting(row, self.request, self.teacher, choice.best.setting)
        chosen.choice, chosen.exploratory = choice, row.exploratory
        return chosen
