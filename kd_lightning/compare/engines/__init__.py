"""What a study needs of the engine that does its runs: start a run; which have ended, and how."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kd_lightning.compare.worker import Job


class Engine(Protocol):
    """Does the runs of a study, in processes here or on other machines.

    A run that ended well has left its file of results (``Job.result``) and its weights beside it, where the study's own
    process reads them; an engine without a shared folder writes them there before ``wait`` returns the run. ``start``
    may be called for a run that an earlier process of the study has started: the engine then goes on waiting for it.

    Attributes:
        jobs: Runs at once.
        threads: CPU threads of each run, on which the last digits of its numbers depend.
    """

    jobs: int
    threads: int

    @property
    def running(self) -> "list[Job]":
        """The jobs that were started and that ``wait`` has not returned."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""

    def start(self, job: "Job") -> None:
        """Start a job, and do not wait for it; its failure, to be started too, is what ``wait`` returns."""

    def wait(self, seconds: float) -> "list[tuple[Job, str | None]]":
        """Return the jobs that end within a time, each with its failure in one sentence, or ``None``."""

    def close(self) -> None:
        """Release the engine after the last run, or when the study is stopped."""
