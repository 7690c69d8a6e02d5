"""Distillation: a student and a frozen teacher, which see the same view of each image."""

from collections.abc import Callable
from typing import Any, Literal, Self

from torch import Tensor, nn

from kd_lightning.errors import require_object
from kd_lightning.losses import Batch, Loss
from kd_lightning.losses.pairs import pair_lines
from kd_lightning.losses.total import check_losses
from kd_lightning.networks import Network
from kd_lightning.tasks.balance import BALANCE_KEY, Balance, load_balance
from kd_lightning.tasks.checkpoints import TEACHER_KEY, check_teacher, teacher_record
from kd_lightning.tasks.task import Task
from kd_lightning.teacher import AnyTeacher, FileTargets, TeacherCache, TeacherOutput, Teachers, TeacherTargets
from kd_lightning.teacher.when_cached import Caching


class Distill(Task):
    """Train a student with a frozen teacher, by the weighted sum of named losses.

    Args:
        network: The student.
        teacher: The teacher, which stays frozen: one (``Teacher``), several (``Teachers``; in Python also a list), or a
            file of outputs (``FileTeacher``).
        losses: The losses by name, the one on labels included. The names are those of curves and options, as in
            ``--model.losses.kd.temperature 2``.
        cache_teacher: Whether the teacher's targets are cached: computed once, then looked up. This is exact where the
            views of the training images can be counted: without augmentation, with flips only, or with
            ``--data.views``. ``auto`` caches wherever that is exact, saves time and fits into memory or on the disk.
        balance: How many times as hard as the labels each loss on the teacher pulls: its weight makes its gradient, in
            the first batches, that many times as long as the labels'. The weights found are printed, and take the place
            of those given. Above 0; off by default.
        options: Further arguments, those of ``Task``.

    Attributes:
        teacher_cache: The teacher cache of the last fit; ``None`` where the teacher ran in every step.

    Raises:
        UserError: A layer is missing, or shapes do not match.
    """

    def __init__(
        self,
        network: Network,
        teacher: AnyTeacher,
        losses: dict[str, Loss],
        *,
        cache_teacher: bool | Literal["auto"] = "auto",
        balance: float | None = None,
        **options: Any,
    ) -> None:
        if isinstance(teacher, list | tuple):
            teacher = Teachers({f"teacher_{number}": one for number, one in enumerate(teacher, 1)})
        require_object("teacher", teacher, AnyTeacher, 'Teacher(DeepNN(), weights="teacher.pth")', "Teacher")
        check_losses(losses)
        targets = teacher.targets(losses)
        super().__init__(network, losses, targets.shapes_of, **options)
        self.balance = None if balance is None else Balance(balance, losses)
        self._beside = teacher, targets  # a tuple is not searched for submodules
        self.cache_teacher = cache_teacher
        self.teacher_cache: TeacherCache | None = None

    @property
    def teacher(self) -> AnyTeacher:
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
        """Return the networks that run in a step: student and teachers."""
        return (*super().networks(), *self.teacher.networks)

    def step_modules(self) -> tuple[nn.Module, ...]:
        """Return all modules that run in a step, the teacher included."""
        return (*super().step_modules(), self.teacher)

    def teacher_outputs(self, batch: Batch) -> TeacherOutput:
        """Return what the losses need of the teacher for the images that the student sees, cached or computed."""
        return self.targets(batch)

    def caching(self) -> Caching:
        """Return what decides whether the teacher's targets are cached in the running fit, and caches them."""
        return Caching(self.cache_teacher, self.targets, self.teacher, self.trainer, self.print)

    def setup(self, stage: str) -> None:
        """Check that student, teacher and data match."""
        super().setup(stage)
        self.targets.drop_tables()  # a fit that was stopped may have left some
        if stage == "fit" and self.teacher.networks:
            self.caching().check_views()
        if stage == "fit" and self.balance is not None:
            self.balance.weights = {}  # each fit measures its own
        done = self.teacher.adapt(self.data, stage)
        self.losses.attach(self.network, self.teacher.network_of)
        if done and stage == "fit":
            self.print(f"Teacher: {' and '.join(done)}.")

    def prepare(self) -> None:
        """Print what the losses compare; cache the teacher's targets where that is exact and pays, or print why not."""
        pairs = pair_lines(self.losses.named, self.extractor.shapes, self.targets.shapes_of)
        for line in (*pairs, *self.extractor.layout_lines(), *self.targets.layout_lines()):
            self.print(f"Losses: {line}.")
        if isinstance(self.targets, FileTargets):
            self.teacher_cache = self.targets.open(self.device, self.trainer.world_size)
        else:
            self.teacher_cache = self.caching().run()
        if self.balance is not None:
            self.print("\n".join(self.balance.run(self)))

    def found_weights(self) -> dict[str, Any] | None:
        """Return the weights that ``balance`` has found, as checkpoints and the summary have them."""
        return None if self.balance is None else {"ratio": self.balance.ratio, "weights": self.balance.weights}

    def on_train_end(self) -> None:
        """Drop the cached targets."""
        self.targets.drop_tables()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the files of the teacher, or teachers, and the digests of their weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TEACHER_KEY] = teacher_record(self.teacher)
        checkpoint[BALANCE_KEY] = self.found_weights()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse also a checkpoint that learned from another teacher."""
        super().on_load_checkpoint(checkpoint)
        check_teacher(self, self.teacher, checkpoint)
        load_balance(self, self.balance, checkpoint.get(BALANCE_KEY))
