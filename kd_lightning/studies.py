"""A study from Python: what the command ``compare`` does, as a function."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kd_lightning.report.result import StudyResult


def compare(
    config: str | Path,
    *,
    seeds: int | None = None,
    first_seed: int | None = None,
    looks: Sequence[int] | None = None,
    tuning_seeds: int | None = None,
    teachers: Literal["one", "per_seed"] | None = None,
    output: str | Path | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    onnx: bool | None = None,
    engine: Literal["local", "slurm", "ray"] | None = None,
    options: Mapping[str, Any] | None = None,
) -> "StudyResult":
    """Run a study, or what is missing of it, and return its results; it also writes its report, as the command does.

    A study that was started here can be resumed in a terminal, and the other way round. Arguments that are not given
    are those of the study's file.

    Args:
        config: The study's file, by its path or its bare name, such as ``quickstart_compare.yaml``.
        seeds: Number of seeds; every row runs once with each. The first start of a study makes it the planned number,
            at which verdicts are given.
        first_seed: The first seed; a new study on the same question takes new seeds.
        looks: Numbers of seeds at which verdicts are given, such as ``[5, 10, 20]``.
        tuning_seeds: Number of other seeds with which each setting of a row's ``grid`` or ``search`` is tried.
        teachers: Whether all seeds share ``one`` teacher, or each has its own (``per_seed``).
        output: Folder of the report, the finished runs and the logs; ``lightning_logs/STUDY`` by default.
        jobs: Runs at once.
        threads: CPU threads of each run.
        onnx: Whether a run of each row is exported, for its size and its latency.
        engine: What does the runs: processes here (``local``), SLURM's jobs (``slurm``), or Ray's tasks (``ray``); the
            study's file has their options.
        options: Options of ``fit`` that every run gets, such as ``{"trainer.max_epochs": 5}``.

    Returns:
        The rows with their numbers and verdicts, and the page of the report.

    Raises:
        UserError: Something in the study is wrong; the message names it.
    """
    from lightning.pytorch.utilities.seed import isolate_rng
    from rich.console import Console

    from kd_lightning.commands.compare import compare
    from kd_lightning.compare.row_config import as_text
    from kd_lightning.compare.study import read_request
    from kd_lightning.report.result import StudyResult
    from kd_lightning.training.console import quieten

    quieten()
    numbers = {"seeds": seeds, "first_seed": first_seed, "tuning_seeds": tuning_seeds, "jobs": jobs, "threads": threads}
    texts = {"teachers": teachers, "output": output and str(output), "engine": engine}
    own = numbers | texts | {"looks": looks and list(looks), "onnx": onnx}
    given = {name: value for name, value in own.items() if value is not None} | dict(options or {})
    words = [f"--{name}={value if isinstance(value, str) else as_text(value)}" for name, value in given.items()]
    args = ["compare", "--config", str(config), *words]
    with isolate_rng(include_cuda=False):  # rows are built with seeds of their own
        analysis, page = compare(read_request(args[1:]), args, Console())
    return StudyResult(analysis, page)
