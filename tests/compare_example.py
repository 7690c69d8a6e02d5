"""A made-up study that looks like a real one: teacher, student (baseline), cosine, regress."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Curves, Failure, Role, Row, Run, Settings, Study
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.data.class_names import CIFAR10_CLASSES

ACCURACY = {"teacher": 0.705, "student": 0.652, "cosine": 0.640, "regress": 0.654}
REPORTED = {"teacher": 0.7177, "student": 0.6632, "cosine": 0.6500, "regress": 0.6598}
SETTINGS = Settings(
    data="CIFAR-10 (JPEG copy)",
    protocol="45,000 images train, 5,000 validate; the test split is evaluated once, at the last epoch.",
    teacher="one per seed",
    epochs=50,
    seeds=(0, 1, 2, 3, 4),
    plan=StudyPlan(0, (5,), {"cosine": "as planned", "regress": "as planned"}, 5),
    machine="2 CPU cores, no accelerator",
    versions={"kd_lightning": "0.1.0", "torch": "2.14.1", "lightning": "2.6.6", "onnxruntime": "1.32.0"},
    command="kd-lightning compare --config notebook_table.yaml --seeds 5",
    new_study="kd-lightning compare --config notebook_table.yaml --output new --first_seed 5",
    date="2026-01-31",
    seconds=5025.0,
)


def example_run(seed: int, accuracy: float, images: int = 1000, epochs: int = 20, *, teacher: bool = False) -> Run:
    """Draw a run: the seed sets which images are hard, so that runs of one seed are paired."""
    generator = np.random.default_rng([seed, int(1e6 * accuracy)])
    labels = np.arange(images) % len(CIFAR10_CLASSES)
    correct = _rank(np.random.default_rng(7).normal(size=images) + 0.6 * generator.normal(size=images)) < accuracy
    wrong = (labels + generator.choice([2, 8, 1, 9], size=images, p=[0.5, 0.3, 0.1, 0.1])) % len(CIFAR10_CLASSES)
    return Run(
        seed=seed,
        test_loss=1.55 - accuracy + generator.normal(0, 0.01),
        calibration_error=abs(0.03 + generator.normal(0, 0.004)),
        labels=labels,
        predicted=np.where(correct, labels, wrong),
        class_count=len(CIFAR10_CLASSES),
        parameters=1_186_986 if teacher else 267_738,
        multiply_adds=94_200_000 if teacher else 1_300_000,
        training_seconds=(210.0 if teacher else 60.0) + generator.normal(0, 1),
        curves=_curves(generator, accuracy, epochs),
        teacher_agreement=None if teacher else 0.7 + generator.normal(0, 0.004),
        onnx_bytes=4_752_000 if teacher else 1_074_000,
        latency_ms=(3.1 if teacher else 0.12) + abs(generator.normal(0, 0.01)),
    )


def example_study(seeds: Sequence[int] = range(5), images: int = 1000, epochs: int = 20) -> Study:
    """Return four rows, looked at once after all seeds; cosine hurts, regress is inconclusive."""
    rows = [_row(name, seeds, images, epochs) for name in ACCURACY]
    plan = replace(SETTINGS.plan, first_seed=seeds[0], looks=(len(seeds),)) if seeds else SETTINGS.plan
    settings = replace(SETTINGS, seeds=tuple(seeds), plan=plan, epochs=epochs)
    return Study("notebook_table", settings, CIFAR10_CLASSES, tuple(rows))


def with_rows(study: Study, *rows: Row) -> Study:
    """Return the study with other rows, which were planned."""
    plan = replace(study.settings.plan, rows={row.name: "as planned" for row in rows if row.role == "student"})
    return replace(study, rows=rows, settings=replace(study.settings, plan=plan))


def with_failure(study: Study, reason: str) -> Study:
    """Return the study with the last run of its last row failed."""
    *others, last = study.rows
    failed = replace(last, runs=last.runs[:-1], failures=(Failure(last.runs[-1].seed, reason),))
    return replace(study, rows=(*others, failed))


def _row(name: str, seeds: Sequence[int], images: int, epochs: int) -> Row:
    role: Role = "teacher" if name == "teacher" else "baseline" if name == "student" else "student"
    of_seed = {seed: np.random.default_rng(seed).normal(0, 0.004) for seed in seeds}
    of_run = {seed: np.random.default_rng([seed, *name.encode()]).normal(0, 0.0025) for seed in seeds}
    runs = [
        example_run(seed, ACCURACY[name] + of_seed[seed] + of_run[seed], images, epochs, teacher=role == "teacher")
        for seed in seeds
    ]
    return Row(name, f"notebook_{name}", role, tuple(runs), reported=REPORTED[name])


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values.argsort().argsort() + 0.5) / len(values)


def _curves(generator: np.random.Generator, accuracy: float, epochs: int) -> Curves:
    done = np.arange(1, epochs + 1) / epochs
    rise = 1 - np.exp(-4 * done)
    noise = generator.normal(0, 0.006, (4, epochs))
    return Curves(
        epochs=tuple(range(1, epochs + 1)),
        train_loss=tuple(2.2 - (0.7 + accuracy) * rise + noise[0]),
        train_accuracy=tuple(0.15 + (accuracy - 0.1) * rise + noise[1]),
        val_loss=tuple(2.2 - (0.55 + accuracy) * rise + 0.1 * done + noise[2]),
        val_accuracy=tuple(0.15 + (accuracy - 0.15) * rise + noise[3]),
    )
