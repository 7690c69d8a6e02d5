"""Training on images without labels: losses on labels see the labelled ones, the others all."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import train
from lightning.pytorch.callbacks import ModelCheckpoint
from loss_examples import Layers
from tiny import PartlyLabelled, Unlabelled
from torch.nn import functional

from kd_lightning.callbacks.epoch_lines import start_line
from kd_lightning.data.augment import HorizontalFlip, Mixup, RandomCrop
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import CrossEntropy, Loss, SoftTargets
from kd_lightning.losses.soft_targets import soft_target_loss
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

DATA: dict[str, Any] = {
    "classes": 5,
    "count": 120,
    "batch_size": 16,
    "labelled_share": 0.25,
    "augment": [RandomCrop(padding=1), HorizontalFlip()],
    "views": 3,
}


def test_losses_on_labels_see_the_labelled_images_and_all_others_see_all() -> None:
    task = Distill(
        Layers(), Teacher(Layers(body=6)), {"labels": CrossEntropy(weight=0.5), "kd": SoftTargets(temperature=2)}
    )
    task.eval()
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([1, 4])
    step = task.step(Batch(images, labels, torch.arange(6)))
    own, other = task.network(images), task.teacher(images)
    torch.testing.assert_close(step.losses["labels"], functional.cross_entropy(own[:2], labels))
    torch.testing.assert_close(step.losses["kd"], soft_target_loss(own, other, 2.0))
    assert torch.equal(step.logits, own[:2])


def test_a_run_resumes_in_the_middle_of_an_epoch_of_mixed_batches(tmp_path: Path) -> None:
    def make(fast: bool) -> Distill:
        return from_teacher(labels=CrossEntropy(), kd=SoftTargets())

    undisturbed = train(make, False, DATA, source=PartlyLabelled)
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=11, save_top_k=-1, filename="{step}")
    train(make, False, DATA, source=PartlyLabelled, callbacks=[saved], enable_checkpointing=True)
    resumed = train(make, False, DATA, source=PartlyLabelled, ckpt=tmp_path / "step=11.ckpt")
    for name, values in undisturbed[1].state_dict().items():
        assert torch.equal(values, resumed[1].state_dict()[name]), name
    with pytest.raises(UserError, match=r"the number of labelled images in a batch was 4; now it is 8"):
        train(make, False, {**DATA, "labelled_share": 0.5}, source=PartlyLabelled, ckpt=tmp_path / "step=11.ckpt")


def test_without_any_label_a_student_learns_from_its_teacher_and_no_accuracy_of_training_is_given() -> None:
    task = from_teacher(kd=SoftTargets())
    before = [values.clone() for values in task.network.parameters()]
    trainer, _ = train(lambda _: task, False, DATA, source=Unlabelled)
    assert not any(map(torch.equal, task.network.parameters(), before))
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert "train/accuracy" not in trainer.callback_metrics
    assert "0 labelled and 120 unlabelled training images" in start_line(task)
    assert float(trainer.test(task, datamodule=Unlabelled(**DATA), verbose=False)[0]["test/accuracy"]) >= 0


class OwnLabels(Loss):
    """Compares with labels without saying so."""

    def forward(self, student: Any, target: Any, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(student.logits, batch.labels)


def without_teacher() -> Classifier:
    return Classifier(Layers())


def from_teacher(**losses: Loss) -> Distill:
    torch.manual_seed(1)
    return Distill(Layers(), Teacher(Layers(body=6)), losses)


@pytest.mark.parametrize(
    ("make", "source", "data", "message"),
    [
        (
            without_teacher,
            PartlyLabelled,
            {},
            r"^all losses of this Classifier need labels \(labels\), so ",
        ),
        (
            partial(from_teacher, kd=SoftTargets(), labels=CrossEntropy()),
            Unlabelled,
            {},
            r"^the loss 'labels' \(CrossEntropy\) needs labels, but no training image has one; .*model\.losses.*\.$",
        ),
        (
            partial(from_teacher, kd=SoftTargets()),
            PartlyLabelled,
            {"augment": [Mixup()], "views": None},
            r"^Mixup in --data\.augment mixes labels, but 80 training images have none; .*\.$",
        ),
        (
            partial(from_teacher, kd=SoftTargets(), own=OwnLabels()),
            PartlyLabelled,
            {},
            r"^the loss 'own' \(OwnLabels\) .* needs_labels = True",
        ),
    ],
    ids=["no teacher", "no labels", "mixed", "unmarked loss"],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Any, source: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(lambda _: make(), False, {**DATA, "val_size": 0, **data}, source=source)
