"""Whether a fit caches its teacher's targets: where that is exact and pays."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from lightning.pytorch import Trainer

from kd_lightning.data.base import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.teacher.base import AnyTeacher
from kd_lightning.teacher.cache import CacheRequest, NotCacheableError, TeacherCache, cache_outputs, check_views
from kd_lightning.teacher.targets import TeacherTargets


class Caching:
    """Decide whether the teacher's targets are cached in a fit, and cache them.

    Args:
        wanted: Whether they are to be cached; ``auto`` where that saves time.
        targets: The teacher's targets.
        teacher: The teacher.
        trainer: The trainer of the fit.
        print_line: Prints a line.
    """

    def __init__(
        self,
        wanted: bool | Literal["auto"],
        targets: TeacherTargets,
        teacher: AnyTeacher,
        trainer: Trainer,
        print_line: Callable[[str], None],
    ) -> None:
        self.wanted = wanted
        self.targets = targets
        self.teacher = teacher
        self.trainer = trainer
        self.print_line = print_line
        self.data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]

    def check_views(self) -> None:
        """Refuse, before training, to cache views that cannot be counted, where caching is required."""
        if self.wanted is True:
            with self._explained():
                check_views(self.data)

    def check(self) -> None:
        """Raise ``NotCacheableError`` where the targets cannot be cached, or that does not pay."""
        check_views(self.data)
        data, trainer = self.data, self.trainer
        batches = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
        images = batches * data.batch_size * trainer.world_size
        if self.wanted == "auto" and images < len(data.train_rows()[1]) * (data.seen_views.count or 1):
            views = f" in {data.seen_views.count} views" if data.views else ""
            raise NotCacheableError(f"this fit runs it on fewer images than there are{views}")

    def run(self) -> TeacherCache | None:
        """Cache the targets, or print why not.

        Returns:
            The size and the place of the cache; ``None`` where the teacher runs in every step.

        Raises:
            UserError: Caching is required, and not possible.
        """
        if self.wanted is False:
            return None
        with self._explained():
            self.check()
            with self.trainer.precision_plugin.forward_context():
                trainer = self.trainer
                here, writes = trainer.world_size // trainer.num_nodes, trainer.local_rank == 0
                return cache_outputs(self._request(), here, self.print_line, writes=writes)
        return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except NotCacheableError as reason:
            if self.wanted is True:
                raise UserError(
                    f"--model.cache_teacher is true, but the teacher cannot be cached: {reason}; set it to auto "
                    "or change that."
                ) from reason
            self.print_line(f"Teacher: runs in every step; {reason}.")

    def _request(self) -> CacheRequest:
        device, convert = self.trainer.strategy.root_device, self.trainer.precision_plugin.convert_input
        return CacheRequest(self.targets, self.data, self.teacher.identity(self.data), device, convert)
