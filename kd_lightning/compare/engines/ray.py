"""Runs on Ray: on this machine, or on the machines of a Ray cluster, which share no folder."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd_lightning.compare.engines.options import RayOptions
from kd_lightning.compare.engines.parcel import copy_own_modules, deliver, pack, perform
from kd_lightning.compare.worker import Job, attempt
from kd_lightning.errors import UserError
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import cores
from kd_lightning.wording import counted, shown

RETRIES = 2
"""How often a run is done again after its process or its machine has died; one that fails by itself is not."""

STORE_BYTES = 200 * 2**20
"""Ray's memory for what travels, on this machine; its default is a third of all memory."""

LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Ray on this machine alone listens to no other machine (it asks nobody who they are), and reports no statistics."""


class RayEngine:
    """Does runs as tasks of Ray; one whose machine dies is done again on another.

    Args:
        options: Where they are done.
        jobs: Runs at once; by default as many as the machines have room for.
        threads: CPU threads of each.
        work: Does a run where it has been brought to, and returns its failure.

    Attributes:
        jobs: Runs at once.

    Raises:
        UserError: Ray is missing, cannot be reached, or has no machine with room for a run.
    """

    def __init__(
        self,
        options: RayOptions,
        *,
        jobs: int | None,
        threads: int,
        work: Callable[[Job], str | None] = attempt,
    ) -> None:
        if options.address is None:
            os.environ.update(LOCAL | dict(os.environ))
        self._ray: Any = import_module("ray")
        self._options, self._work = options, work
        self._tasks: dict[Any, Job] = {}
        self.threads = threads
        self._cpus = jobs * threads if jobs else cores()
        self._connect()
        self.jobs = jobs or self._room

    @property
    def running(self) -> list[Job]:
        """The jobs that run, or wait for a machine."""
        return list(self._tasks.values())

    @property
    def has_room(self) -> bool:
        """Whether another job can be started."""
        return len(self._tasks) < self.jobs

    def start(self, job: Job) -> None:
        """Send a job, with the files that it needs."""
        if not self._ray.is_initialized():
            self._connect()
        self._tasks[self._task.remote(pack(job), self.threads, self._work)] = job

    def wait(self, seconds: float) -> list[tuple[Job, str | None]]:
        """Return the jobs that end within a time, after writing what they left, each with its failure or ``None``."""
        if not self._tasks:
            return []
        ended, _ = self._ray.wait(list(self._tasks), timeout=seconds)
        return [self._collect(task) for task in ended]

    def close(self) -> None:
        """Leave the cluster, which ends the study's tasks; end the one on this machine."""
        self._tasks.clear()
        self._ray.shutdown()

    def _collect(self, task: Any) -> tuple[Job, str | None]:
        job = self._tasks.pop(task)
        try:
            delivery = self._ray.get(task)
            deliver(delivery, job)
        except UserError as error:
            return job, str(error)
        except self._ray.exceptions.RayError as error:
            return job, explain(error)
        return job, delivery.failure

    def _connect(self) -> None:
        address = self._options.address
        local = {"num_cpus": self._cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        with tempfile.TemporaryDirectory() as modules:  # Ray has sent it when `init` returns
            copy_own_modules(Path(modules))
            quiet = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"working_dir": modules}}
            try:
                self._ray.init(address or "local", **quiet, **({} if address else local))
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(_not_reached(address, error)) from error
        stopping.reinstall_handlers()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = self._options.gpus
        gpus = float(any(node.get("GPU") for node in nodes)) if gpus is None else gpus
        self._room = room(nodes, self.threads, gpus)
        if not self._room:
            self._ray.shutdown()
            raise UserError(_no_room(self.threads, gpus))
        self._task = self._ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=RETRIES)(perform)


def room(nodes: Iterable[Mapping[str, float]], threads: int, gpus: float) -> int:
    """Return how many runs some machines can do at once.

    Args:
        nodes: What each machine has, as Ray names it.
        threads: CPU threads of a run.
        gpus: Part of a GPU that a run takes.
    """
    return sum(_room(node, threads, gpus) for node in nodes)


def _room(node: Mapping[str, float], threads: int, gpus: float) -> int:
    by_cpus = int(node.get("CPU", 0) // threads)
    return min(by_cpus, int(node.get("GPU", 0)) * int(1 / gpus)) if gpus else by_cpus


def explain(error: Exception) -> str:
    """Return why a task of Ray left nothing, in one sentence."""
    kind = type(error).__name__
    if kind in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "LocalRayletDiedError"):
        why = "memory ran out" if kind == "OutOfMemoryError" else "its process or its machine died"
        return f"{why}, and again when it was repeated on Ray ({kind}); try a smaller --jobs"
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {shown(' '.join(str(cause).split()))[:300]}"


def check_ray() -> None:
    """Refuse to start where Ray is missing.

    Raises:
        UserError: It is.
    """
    if find_spec("ray") is None:
        raise UserError('--engine ray needs Ray; install it with `pip install "kd_lightning[ray]"`.')


def _not_reached(address: str | None, error: Exception) -> str:
    reason = shown(" ".join(str(error).split()))[:300]
    if address is None:
        return f"Ray cannot be started ({reason}); `--engine local` needs none."
    return (
        f"no Ray cluster can be used at --ray.address {address} ({reason}); start one with `ray start --head`, and set "
        "RAY_AUTH_MODE=token where it asks for a token."
    )


def _no_room(threads: int, gpus: float) -> str:
    gpu = f" and {gpus:g} GPU" if gpus else ""
    return f"no machine of Ray has {counted(threads, 'CPU')}{gpu} for a run; change --threads or --ray.gpus."
