"""What every distillation shares: a student, a frozen teacher, and one view of each image for both."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal, Self

from torch import Tensor, nn

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.outcome import Outcome
from kd_lightning.remembered import CannotRememberError, RememberedTeacher, check_views, remember
from kd_lightning.same_data import check_data
from kd_lightning.tasks.base import Task
from kd_lightning.tasks.counting import Stage
from kd_lightning.teacher import Teacher, TeacherAnswer, TeacherOutput

TEACHER_KEY = "teacher"
"""Where checkpoints keep which teacher they learn from."""


class DistillTask(Task):
    """Train a student with a frozen teacher.

    Args:
        network: The student.
        teacher: The teacher; it never changes.
        loss_weights: Weight of each loss term, by the term's name.
        remember_teacher: Whether the teacher's targets are computed once and looked up from then on, which is exact
            where the training images are not augmented or only flipped. ``auto`` does so wherever it is exact, saves
            time and fits into memory or on the disk.
        options: Further arguments, those of ``Task``.
    """

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        loss_weights: dict[str, float],
        remember_teacher: bool | Literal["auto"] = "auto",
        **options: Any,
    ) -> None:
        super().__init__(network, loss_weights, **options)
        teacher.network.laid_out()
        self._beside = (teacher,)  # no module: of no business to Lightning
        self.remember_teacher = remember_teacher
        self._remembered: RememberedTeacher | None = None

    @property
    def teacher(self) -> Teacher:
        """The teacher: it goes where the task goes, and no callback or checkpoint that walks the modules meets it."""
        return self._beside[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teacher with the task's own modules, to a device or another precision."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    @abstractmethod
    def target(self, teacher: TeacherOutput) -> Tensor:
        """Return what the objective compares the student with; of a remembered teacher it is all that is kept."""

    def networks(self) -> tuple[Network, ...]:
        """Return the networks that take part in a step."""
        return (*super().networks(), self.teacher.network)

    def step_modules(self) -> tuple[nn.Module, ...]:
        """Return all modules that take part in a step."""
        return (*super().step_modules(), self.teacher)

    def ask_teacher(self, batch: Batch) -> TeacherAnswer:
        """Return the teacher's target for the images that the student sees, remembered or not."""
        target = None if self._remembered is None else self._remembered.look_up(batch)
        if target is not None:
            return TeacherAnswer(target)
        output = self.teacher(batch.images)
        return TeacherAnswer(self.target(output), output.logits)

    def prepare(self) -> None:
        """Remember the teacher's targets where that is exact and pays; say so, or why not."""
        if self.remember_teacher is False:
            return
        try:
            self._remembered = self._remember()
        except CannotRememberError as reason:
            if self.remember_teacher is True:
                raise UserError(
                    f"the teacher cannot be remembered: {reason}; set --model.remember_teacher auto or change that."
                ) from reason
            self.print(f"Teacher: runs in every step; {reason}.")

    def host_sync_reason(self) -> str | None:
        """Return which data of a step lies in main memory, as a clause; ``None`` where none does."""
        if self._remembered is not None and self._remembered.table.device != self.device:
            return "what is remembered of the teacher has no room on the GPU"
        return super().host_sync_reason()

    def _remember(self) -> RememberedTeacher:
        data, trainer, network = self.data, self.trainer, self.teacher.network
        check_views(data)
        asked = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches * data.batch_size
        if self.remember_teacher == "auto" and asked < len(data.train_rows()[1]) * (2 if data.pipeline.steps else 1):
            raise CannotRememberError("this fit asks it for fewer images than there are")
        identity = (type(self), type(network), network.arguments, *chain(*network.state_dict().items()))
        with trainer.precision_plugin.forward_context():
            return remember(
                data,
                lambda images: self.target(self.teacher(trainer.precision_plugin.convert_input(images))),
                identity,
                self.device,
                trainer.world_size,
                self.print,
            )

    def on_train_end(self) -> None:
        """Forget what was remembered."""
        self._remembered = None
        super().on_train_end()

    def accuracies(self, stage: str) -> tuple[str, ...]:
        """Return the names of a stage's accuracies; on test images the teacher is measured too."""
        teachers = ("teacher_accuracy", "teacher_agreement") if stage == "test" else ()
        return (*super().accuracies(stage), *teachers)

    def count(self, outcome: Outcome, labels: Tensor, stage: Stage) -> None:
        """Count predictions; of test images also the teacher's, and how often the student agrees."""
        super().count(outcome, labels, stage)
        if stage == "test" and outcome.teacher_logits is not None:
            self.test_metrics["teacher_accuracy"].update(outcome.teacher_logits, labels)
            self.test_metrics["teacher_agreement"].update(outcome.logits, outcome.teacher_logits.argmax(1))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep which teacher it is."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TEACHER_KEY] = {"weights": self.teacher.weights, "digest": self.teacher.digest}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that learned from another teacher, too."""
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
        """Check that student, teacher and data fit."""
        super().setup(stage)
        self._remembered = None  # a fit that was stopped may have left it
        if self.teacher.weights is not None and self.teacher.info is not None:
            check_data(f"the teacher {self.teacher.weights}", self.teacher.info, self.data)
