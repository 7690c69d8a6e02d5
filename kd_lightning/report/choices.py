"""How the settings of a study's rows were chosen."""

from collections.abc import Iterator
from typing import Any

from kd_lightning.compare.choice import Choice
from kd_lightning.compare.results import Study
from kd_lightning.report.analysis import NOTHING, Analysis, Measure
from kd_lightning.report.tables import Table
from kd_lightning.wording import counted

VALIDATION = Measure("validation_accuracy", "Validation accuracy (%)", 100, 2)


def choices_of(study: Study) -> Iterator[tuple[str, Choice]]:
    """Give the rows that were chosen among several settings, and how."""
    return ((row.name, row.choice) for row in study.rows if row.choice is not None)


def choice_sentence(name: str, choice: Choice) -> str:
    """Return which setting a row has, and of how many."""
    best, failed = choice.best, sum(bool(tried.failure) for tried in choice.tried)
    among = counted(len(choice.tried), "setting") + (f", of which {failed} failed," if failed else "")
    seeds = counted(len(choice.seeds), "seed")
    return (
        f"{name}: {best.text}, the best of {among} on validation images ({VALIDATION.show(best.accuracy)} %, mean of "
        f"{seeds})."
    )


def choice_lines(study: Study) -> list[str]:
    """Return a sentence for each row that was chosen among several settings."""
    return [choice_sentence(name, choice) for name, choice in choices_of(study)]


def choices_table(analysis: Analysis) -> Table:
    """Return every setting that was tried, a line each, the chosen one marked."""
    lines = []
    for name, choice in choices_of(analysis.study):
        for tried in choice.tried:
            state = tried.failure or ("chosen" if tried is choice.best else "")
            accuracy = VALIDATION.show(tried.accuracy) if tried.accuracies else NOTHING
            seeds = ", ".join(VALIDATION.show(value) for value in tried.accuracies) or NOTHING
            lines.append((name, tried.text, accuracy, seeds, state))
    return Table("Choice of settings", ("Row", "Setting", VALIDATION.title, "Each seed", "State"), tuple(lines))


def choices_to_lines(study: Study) -> list[dict[str, Any]]:
    """Return every setting that was tried as a line of a CSV file, with fractions."""
    return [
        {
            "row": name,
            "setting": tried.text,
            "validation_accuracy": tried.accuracy if tried.accuracies else None,
            "seeds": len(tried.accuracies),
            "chosen": tried is choice.best,
            "failure": tried.failure or None,
        }
        for name, choice in choices_of(study)
        for tried in choice.tried
    ]
