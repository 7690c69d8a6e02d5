"""Digests of what the plan of a study fixes: its rows, and the settings among which they are chosen."""

import json
from collections.abc import Sequence
from typing import Any

from kd_lightning.compare.rows import PlannedRow
from kd_lightning.compare.study import StudyConfig
from kd_lightning.digest import digest


def row_digests(rows: Sequence[PlannedRow], study: StudyConfig) -> dict[str, str]:
    """Return a digest of all that each compared row's difference to the baseline depends on, except the seed."""
    baseline = [part for row in rows if row.role == "baseline" for part in _own(row, study)]
    students = [row for row in rows if row.role == "student"]
    return {row.title: _digest([*_own(row, study), *baseline, *_taught(row, rows, study)]) for row in students}


def setting_digests(rows: Sequence[PlannedRow], study: StudyConfig) -> set[str]:
    """Return the digests that the compared rows can have when all settings are chosen, but those of a search."""
    baselines = [_key(one, study) for row in rows if row.role == "baseline" for one in row.settings or [row]]
    taught = {row.title: _taught(row, rows, study) for row in rows if row.role == "student"}
    students = [(row.title, _key(one, study)) for row in rows if row.title in taught for one in row.settings or [row]]
    return {_digest([key, other, *taught[title]]) for title, key in students for other in baselines}


def choice_digest(row: PlannedRow, rows: Sequence[PlannedRow], study: StudyConfig) -> str:
    """Return a digest of all that the choice of a row's setting depends on, except the first seed."""
    return _digest([*_own(row, study), *_taught(row, rows, study)])


def _own(row: PlannedRow, study: StudyConfig) -> list[Any]:
    """Return what identifies a row, or all settings among which it is chosen, and how."""
    if not row.settings:
        return [_key(row, study)]
    search = row.row.search and [row.row.search.space, row.row.search.trials]
    return [*(_key(one, study) for one in row.settings), search, study.tuning_seeds]


def _taught(row: PlannedRow, rows: Sequence[PlannedRow], study: StudyConfig) -> list[Any]:
    return [study.teachers, *(_key(of, study) for of in rows if of.role == "teacher")] if row.learns else []


def _key(row: PlannedRow, study: StudyConfig) -> str:
    return row.key(0, None, study.threads_each)


def _digest(parts: list[Any]) -> str:
    return digest(json.dumps(parts).encode(), size=16)
