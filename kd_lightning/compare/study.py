"""A study: a small config that names the runs to compare, and the options that override it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from kd_lightning.compare.engines.options import RayOptions, SlurmOptions
from kd_lightning.compare.row_config import EACH_RUN, RowConfig, Search, as_args, as_plain
from kd_lightning.errors import UserError
from kd_lightning.machine.cpu import cores
from kd_lightning.training.config_files import ConfigFile, find_config
from kd_lightning.training.parser import Parser
from kd_lightning.training.yaml_check import read_yaml

DESCRIPTION = """Run a study and report which of its rows help. Options that begin with --data, --model or --trainer
reach every run, as in --trainer.max_epochs 5."""


@dataclass(frozen=True)
class StudyConfig:
    """What is compared, and how.

    Args:
        baseline: The row that the others are compared with.
        compared: The rows that are compared with it.
        teacher: The teacher of every row that learns from one.
        options: Options of every row, the teacher's too, as in ``trainer.max_epochs: 10``. The command line overrides
            them, and a row's own ``options`` override both.
        teachers: Whether all seeds share ``one`` teacher, that of the first seed, or each has its own (``per_seed``).
        seeds: Number of seeds; every row runs once with each. Defaults to the last of ``looks``, or 5. The first start
            of a study makes it the planned number, at which verdicts are given. More seeds later are exploratory.
        first_seed: The first seed; defaults to 0. A new study on the same question takes new seeds.
        tuning_seeds: Number of seeds with which each setting of a row's ``grid`` or ``search`` is tried, on validation
            images only. They are other seeds than those of the study.
        looks: Numbers of seeds at which verdicts are given, as in ``[5, 10, 20]``, to stop as soon as each row has one;
            defaults to one look, at the number of seeds.
        output: Folder of the report, the finished runs and the logs; defaults to ``lightning_logs/STUDY``.
        jobs: Runs at once; defaults to as many as the cores have room for, and to one on an accelerator.
        threads: CPU threads of each run; defaults to an eighth of the cores, but at least one. The last digits of the
            results depend on it; they never depend on ``jobs``.
        onnx: Export a run of each row to ONNX at the end, for its size and its latency on this machine.
        engine: What does the runs: processes here (``local``), SLURM's jobs (``slurm``), or Ray's tasks (``ray``).
        slurm: What each job of ``--engine slurm`` gets.
        ray: Where ``--engine ray`` does the runs.

    Raises:
        UserError: A number is too small, the looks do not rise, or two rows have the same name.
    """

    baseline: RowConfig
    compared: list[RowConfig]
    teacher: RowConfig | None = None
    options: dict[str, Any] = field(default_factory=dict)
    teachers: Literal["one", "per_seed"] = "per_seed"
    seeds: int | None = None
    first_seed: int | None = None
    tuning_seeds: int = 2
    looks: list[int] | None = None
    output: str | None = None
    jobs: int | None = None
    threads: int | None = None
    onnx: bool = True
    engine: Literal["local", "slurm", "ray"] = "local"
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        for name, least in {"seeds": 1, "jobs": 1, "threads": 1, "first_seed": 0, "tuning_seeds": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}, but it must be {least} or more.")
        if self.looks is not None and (not self.looks or sorted({2, *self.looks}) != [2, *self.looks]):
            raise UserError(f"--looks is {self.looks}, but it must be rising numbers of seeds from 3, as [5, 10, 20].")
        folders = [row.folder.lower() for row in self.rows]
        twice = next((row.title for row in self.rows if folders.count(row.folder.lower()) > 1), None)
        if twice is not None:
            raise UserError(f"two rows of the study are called '{twice}'; give one of them another `name`.")
        if self.teacher is not None and self.teacher.is_chosen:
            raise UserError("the study's teacher has a grid or a search; tune it in a study of its own.")

    @property
    def rows(self) -> list[RowConfig]:
        """All rows, the teacher first."""
        return [*([self.teacher] if self.teacher else []), self.baseline, *self.compared]

    @property
    def planned_looks(self) -> tuple[int, ...]:
        """The looks of a study that these options begin.

        Raises:
            UserError: The number of seeds is not the last look.
        """
        if self.looks is None:
            return (self.seeds or 5,)
        if self.seeds not in (None, self.looks[-1]):
            raise UserError(
                f"--seeds is {self.seeds}, but the last of --looks is {self.looks[-1]}; leave --seeds out: the study "
                "stops at the first look at which each row has its verdict."
            )
        return tuple(self.looks)

    def shared_teacher(self, first_seed: int) -> int | None:
        """Return the seed of the one teacher; ``None`` where each seed has its own."""
        return first_seed if self.teachers == "one" else None

    @property
    def threads_each(self) -> int:
        """CPU threads of each run."""
        cpus = self.slurm.cpus if self.engine == "slurm" else None
        return self.threads or cpus or max(1, cores() // 8)


@dataclass(frozen=True)
class Request:
    """A study as it is requested.

    Attributes:
        name: Name of the study: its file's.
        study: Its config.
        each_run: Options that every run gets: the study's, then the command line's.
    """

    name: str
    study: StudyConfig
    each_run: tuple[str, ...]

    @property
    def output(self) -> Path:
        """Folder of all that the study writes."""
        return Path(self.study.output or f"lightning_logs/{self.name}")


def read_request(args: Sequence[str]) -> Request:
    """Read the study that a command line requests.

    Args:
        args: The command line after ``compare``.

    Raises:
        UserError: No study is named, or something in it is wrong.
    """
    own, each_run = split_options(args)
    parser = Parser(prog="kd-lightning compare", description=DESCRIPTION)
    parser.builds = False  # the parser of `fit` reads a row's options again
    parser.add_argument("-c", "--config", action=StudyFile, help="The study, such as notebook_table.yaml (required).")
    parser.add_class_arguments(StudyConfig)
    if not {"-h", "--help", "-c"} & set(own) and not any(word.startswith("--config") for word in own):
        raise UserError("compare needs a study: give --config notebook_table.yaml, or one of your own like it.")
    parsed = parser.parse_args(own)
    values = {item.name: parsed[item.name] for item in fields(StudyConfig)}  # jsonargparse would build what rows name
    rows = {name: values[name] and _row(values[name]) for name in ("teacher", "baseline")}
    values |= {"slurm": SlurmOptions(**vars(values["slurm"])), "ray": RayOptions(**vars(values["ray"]))}
    study = StudyConfig(**{**values, **rows, "compared": [_row(row) for row in values["compared"]]})
    return Request(Path(parsed.config[0].relative).stem, study, (*as_args(study.options, "the study"), *each_run))


def split_options(args: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split arguments into the study's own and those that every run gets, each option with its value."""
    own: list[str] = []
    each_run: list[str] = []
    chosen = own
    for word in args:
        if word.startswith("-"):
            chosen = each_run if word.startswith(EACH_RUN) else own
        chosen.append(word)
    return own, tuple(each_run)


def _row(values: Namespace) -> RowConfig:
    """Build a row from what the parser read; a grid's classes become plain values, as files have them."""
    given = {**vars(values), "grid": as_plain(values.grid), "search": values.search and as_plain(values.search)}
    return RowConfig(**{**given, "search": given["search"] and Search(**given["search"])})


class StudyFile(ConfigFile):
    """``--config`` that takes a study, by its bare name or its path, and nothing else."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Find the study and read it into the namespace."""
        path = find_config(values)
        if "compared" not in read_yaml(path):  # `baseline` is an option of ``fit``, too
            raise UserError(f"{path} is not a study: it has no rows in `compared`; notebook_table.yaml shows one.")
        super().__call__(parser, namespace, values, option_string)
