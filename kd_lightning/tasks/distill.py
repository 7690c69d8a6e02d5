"""Distillation: a student and a frozen teacher, which see the same view of each image."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal, Self

from torch import Tensor, nn

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import Loss
from kd_lightning.losses.pairs import feature_extractor, pair_lines
from kd_lightning.networks import Network
from kd_lightning.tasks.base import Task
from kd_lightning.tasks.epoch_metrics import Stage
from kd_lightning.tasks.step_output import StepOutput
from kd_lightning.teacher import NotCacheableError, Teacher, TeacherCache, TeacherOutput, TeacherTargets, cache_outputs
from kd_lightning.teacher.cache import CacheRequest, check_views, is_cached

TEACHER_KEY = "teacher"
"""Key under which checkpoints identify their teacher."""


class Distill(Task):
    """Train a student with a frozen teacher, by the weighted sum of named losses.

    Args:
        network: The student.
        teacher: The teacher; it stays frozen.
        losses: The losses by name, the one on labels included. The names are those of curves and options, as in
            ``--model.losses.kd.temperature 2``.
        cache_teacher: Whether the teacher's targets are cached: computed once, then looked up. This is exact where the
            views of the training images can be counted: without augmentation, with flips only, or with
            ``--data.views``. ``auto`` caches wherever that is exact, saves time and fits into memory or on the disk.
        options: Further arguments, those of ``Task``.

    Attributes:
        teacher_cache: The teacher cache of the last fit; ``None`` where the teacher ran in every step.

    Raises:
        UserError: A layer is missing, or shapes do not match.
    """

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        losses: dict[str, Loss],
        cache_teacher: bool | Literal["auto"] = "auto",
        **options: Any,
    ) -> None:
        teacher.network.to_channels_last()
        extractor = feature_extractor(teacher, teacher.network, losses, lambda loss: loss.teacher_layers)
        super().__init__(network, losses, extractor.shapes, **options)
        self._beside = (
            teacher,
            TeacherTargets(extractor, self.losses),
        )  # a tuple is not searched for submodules
        self.cache_teacher = cache_teacher
        self.teacher_cache: TeacherCache | None = None

    @property
    def teacher(self) -> Teacher:
        """The teacher: it moves with the task, but is not a submodule for callbacks and checkpoints."""
        return self._beside[0]

    @property
    def targets(self) -> TeacherTargets:
        """What the losses need of the teacher."""
        return self._beside[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teacher with the task's own modules, to a device or another precision."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def networks(self) -> tuple[Network, ...]:
        """Return the networks that run in a step: student and teacher."""
        return (*super().networks(), self.teacher.network)

    def step_modules(self) -> tuple[nn.Module, ...]:
        """Return all modules that run in a step, the teacher included."""
        return (*super().step_modules(), self.teacher)

    def model_step(self, batch: Batch) -> StepOutput:
        """Return the student's logits, the losses, and the teacher's logits where it ran."""
        student, teacher = self.extractor(batch.images), self.teacher_outputs(batch)
        return StepOutput(student.logits, self.losses(student, teacher.targets, batch)[1], teacher.logits)

    def teacher_outputs(self, batch: Batch) -> TeacherOutput:
        """Return what the losses need of the teacher for the images that the student sees, cached or computed."""
        return self.targets(batch)

    def prepare(self) -> None:
        """Print what the losses compare; cache the teacher's targets where that is exact and pays, or print why not."""
        for line in pair_lines(self.named_losses, self.extractor.shapes, self.targets.shapes):
            self.print(f"Losses: {line}.")
        self.teacher_cache = None
        if self.cache_teacher is not False:
            with self._caching():
                self.teacher_cache = self._cache_teacher()

    @contextmanager
    def _caching(self) -> Iterator[None]:
        """Print why the teacher cannot be cached; raise a ``UserError`` where ``cache_teacher`` is true."""
        try:
            yield
        except NotCacheableError as reason:
            if self.cache_teacher is True:
                raise UserError(
                    f"--model.cache_teacher is true, but the teacher cannot be cached: {reason}; set it to auto "
                    "or change that."
                ) from reason
            self.print(f"Teacher: runs in every step; {reason}.")

    def host_sync_reason(self) -> str | None:
        """Return, as a clause, which data of a step is in main memory; ``None`` where none is."""
        if any(table.device != self.device for table in self.targets.tables.values()):
            return "the teacher's cached targets do not fit on the GPU"
        return super().host_sync_reason()

    def check_cacheable(self) -> None:
        """Raise ``NotCacheableError`` where the teacher's targets cannot be cached, or that does not pay."""
        data, trainer = self.data, self.trainer
        check_views(data)
        images = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches * data.batch_size
        if self.cache_teacher == "auto" and images < len(data.train_rows()[1]) * (data.seen_views.count or 1):
            views = f" in {data.seen_views.count} views" if data.views else ""
            raise NotCacheableError(f"this fit runs it on fewer images than there are{views}")

    def _cache_teacher(self) -> TeacherCache:
        self.check_cacheable()
        with self.trainer.precision_plugin.forward_context():
            return cache_outputs(self._cache_request(), self.trainer.world_size, self.print)

    def is_cached(self) -> bool:
        """Return whether an earlier run has saved all targets; call it after ``check_cacheable``."""
        with self.trainer.precision_plugin.forward_context():
            return is_cached(self._cache_request())

    def _cache_request(self) -> CacheRequest:
        network, info = self.teacher.network, self.teacher.info
        seen = () if info is None else (info.mean, info.std, info.class_names, self.data.class_names)
        identity = (network.class_path, network.arguments, *seen, *chain(*network.state_dict().items()))
        return CacheRequest(self.targets, self.data, identity, self.device, self.trainer.precision_plugin.convert_input)

    def on_train_end(self) -> None:
        """Drop the cached targets."""
        self.targets.drop_tables()
        super().on_train_end()

    def accuracies(self, stage: str) -> tuple[str, ...]:
        """Return the names of a stage's accuracies; on test images also the teacher's and the agreement with it."""
        teachers = ("teacher_accuracy", "teacher_agreement") if stage == "test" else ()
        return (*super().accuracies(stage), *teachers)

    def update_accuracies(self, output: StepOutput, labels: Tensor, stage: Stage) -> None:
        """Update the accuracies; on test images also the teacher's, and how often the student agrees."""
        super().update_accuracies(output, labels, stage)
        if stage == "test" and output.teacher_logits is not None:
            self.test_metrics["test/teacher_accuracy"].update(output.teacher_logits, labels)
            self.test_metrics["test/teacher_agreement"].update(output.logits, output.teacher_logits.argmax(1))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the teacher's file and the digest of its weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TEACHER_KEY] = {"weights": self.teacher.weights, "digest": self.teacher.digest}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse also a checkpoint that learned from another teacher."""
        super().on_load_checkpoint(checkpoint)
        teacher = checkpoint.get(TEACHER_KEY, {})
        if self._trainer is None or teacher.get("digest", self.teacher.digest) == self.teacher.digest:
            return
        path, found, learned_from = self.trainer.ckpt_path, self.teacher.weights, teacher.get("weights")
        if learned_from == found:
            raise UserError(f"the teacher {found} has been replaced since {path} learned from it; put it back.")
        raise UserError(
            f"{path} learned from the teacher {learned_from}, not from {found}; add --model.teacher.weights "
            f"{learned_from}."
        )

    def setup(self, stage: str) -> None:
        """Check that student, teacher and data match."""
        super().setup(stage)
        self.targets.drop_tables()  # a fit that was stopped may have left some
        if stage == "fit" and self.cache_teacher is True:
            with self._caching():
                check_views(self.data)
        done = self.teacher.adapt(self.data)
        if done and stage == "fit":
            self.print(f"Teacher: {' and '.join(done)}.")
