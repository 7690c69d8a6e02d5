"""The options of a study's engines."""

from dataclasses import dataclass, field

from kd_lightning.errors import UserError


@dataclass(frozen=True)
class SlurmOptions:
    """What each job of ``--engine slurm`` gets; a job does one run.

    Args:
        partition: The partition; defaults to the cluster's default.
        time: Minutes that a job may take, at least 2. A run that needs more goes on from its last epoch in the next
            job, up to 10 times.
        gpus: GPUs of a job: 0 or 1.
        cpus: CPU cores of a job; defaults to ``threads``. Without ``threads`` a run has a thread for each of them.
        memory: Memory of a job in GB; defaults to the cluster's default.
        setup: Shell commands before a job's run, as in ``[module load cuda]``.

    Raises:
        UserError: A number is too small, or ``gpus`` too large.
    """

    partition: str | None = None
    time: int = 60
    gpus: int = 0
    cpus: int | None = None
    memory: float | None = None
    setup: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.gpus not in (0, 1):
            raise UserError(f"--slurm.gpus is {self.gpus}, but a run of a study uses one GPU or none: give 1 or 0.")
        least = {"time": (self.time, 2), "cpus": (self.cpus, 1)}
        for name, (value, minimum) in least.items():
            if value is not None and value < minimum:
                raise UserError(f"--slurm.{name} is {value}, but it must be {minimum} or more.")
        if self.memory is not None and not 0 < self.memory < float("inf"):
            raise UserError(f"--slurm.memory is {self.memory:g}, but it must be a number of GB above 0.")


@dataclass(frozen=True)
class RayOptions:
    """Where ``--engine ray`` does runs.

    Args:
        address: A Ray cluster's, such as ``10.0.0.1:6379``; by default Ray is started on this machine for the study.
        gpus: Part of a GPU that each run takes, from 0 to 1, as in ``0.25`` for four runs on one; defaults to 1 where
            there are GPUs.

    Raises:
        UserError: ``gpus`` is not from 0 to 1.
    """

    address: str | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise UserError(f"--ray.gpus is {self.gpus}, but it must be from 0 to 1: a run trains on one GPU.")
