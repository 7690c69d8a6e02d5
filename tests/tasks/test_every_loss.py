"""Every loss in one training, with the teacher's targets computed, cached or captured."""

from collections.abc import Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from loss_examples import LABELS, LOSSES, Layers
from recorded_graph import Captures
from tiny import PartlyLabelled
from torch.optim import SGD

from kd_lightning.data.augment import CutMix, HorizontalFlip, Mixup, RandomCrop
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

DATA = {"classes": 5}
UNMIXED = [name for name, make in LOSSES.items() if make().needs_hard_labels]


def distill(fast: bool, cache_teacher: bool, names: Iterable[str] = LOSSES) -> Distill:
    torch.manual_seed(1)
    losses = {name: LOSSES[name]() for name in names}
    for loss in losses.values():
        loss.warm_up, loss.full_weight = 2, 0.1
    return Distill(
        Layers(),
        Teacher(Layers(body=6, deep=6, flat=7)),
        losses,
        cache_teacher=cache_teacher,
        fast=fast,
        optimizer=lambda parameters: SGD(parameters, lr=2**-9, momentum=0.5, fused=True),
    )


def test_every_loss_is_the_same_live_cached_and_captured(captured_on_cpu: Captures) -> None:
    data: dict[str, Any] = {**DATA, "count": 100, "augment": [RandomCrop(padding=1), HorizontalFlip()], "views": 3}
    live = train(partial(distill, cache_teacher=False), False, data, max_epochs=3)
    for fast in (False, True):
        other = train(partial(distill, cache_teacher=True), fast, data, max_epochs=3)
        assert_same(live, other, exact=False)
        for name, expected in live[0].callback_metrics.items():
            if not name.endswith("accuracy"):
                found = float(other[0].callback_metrics[name])
                assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5), name
    assert captured_on_cpu.replays > 2


def test_losses_train_on_labelled_and_unlabelled_images_live_cached_and_captured(captured_on_cpu: Captures) -> None:
    data: dict[str, Any] = {**DATA, "count": 60, "batch_size": 8, "labelled_share": 0.25}
    data |= {"augment": [RandomCrop(padding=1), HorizontalFlip()], "views": 3}
    names = ("labels", "soft_targets", "dkd", "contrast", "spatial_cosine", "similarity")
    live = train(partial(distill, cache_teacher=False, names=names), False, data, source=PartlyLabelled)
    other = train(partial(distill, cache_teacher=True, names=names), True, data, source=PartlyLabelled)
    assert captured_on_cpu.replays > 2
    assert_same(live, other, exact=False)


def test_every_loss_sees_the_labelled_images_of_a_batch_or_reads_no_label() -> None:
    torch.manual_seed(0)
    images, rows = torch.randn(6, 3, 8, 8), torch.arange(6)
    task = distill(False, False)
    task.losses.attach(task.network, task.teacher.network_of)
    task.start_losses(16, LABELS)
    task.eval()
    labels = LABELS[:4]
    mixed = task.step(Batch(images, labels, rows)).losses
    first, whole = (task.step(Batch(images[:n], LABELS[:n].flip(0), rows[:n])).losses for n in (4, 6))
    labelled = task.step(Batch(images[:4], labels, rows[:4])).losses
    for name, loss in task.losses.named.items():
        expected = labelled[name] if loss.sees_labelled else whole[name]
        torch.testing.assert_close(mixed[name], expected, msg=name)
        reads = not torch.equal(first[name], labelled[name])
        assert not reads or loss.sees_labelled, name


@pytest.mark.parametrize(("name", "mixing"), [("contrast", Mixup()), ("dkd", CutMix())], ids=["mixup", "cutmix"])
def test_a_loss_that_needs_one_label_of_each_image_refuses_mixed_ones_before_training(name: str, mixing: Any) -> None:
    assert {"contrast", "dkd", "nkd"} <= set(UNMIXED)
    task = distill(False, False, [name])
    before = deepcopy(task.network.state_dict())
    message = rf"^the loss '{name}' \(.*\) is undefined .* has {type(mixing).__name__}; leave that out, [^.]*\.$"
    with pytest.raises(UserError, match=message):
        train(lambda _: task, False, {**DATA, "augment": [RandomCrop(padding=1), mixing]})
    for key, values in task.network.state_dict().items():
        assert torch.equal(values, before[key])


def test_all_other_losses_train_on_mixed_images() -> None:
    data = {**DATA, "augment": [Mixup(), CutMix()]}
    mixed = [name for name in LOSSES if name not in UNMIXED]
    trainer, _ = train(lambda _: distill(False, False, mixed), False, data, max_epochs=1)
    for name in mixed:
        assert torch.isfinite(trainer.callback_metrics[f"train/{name}"])


def test_every_parameter_of_a_loss_is_trained() -> None:
    task = distill(fast=False, cache_teacher=False)
    before = {name: values.clone() for name, values in task.losses.named_parameters()}
    train(lambda _: task, False, {**DATA, "count": 16}, max_epochs=1)
    assert {"spatial_cosine.projector.weight", "srd.projector.weight", "vid.raw_variances"} < before.keys()
    kept = [name for name, values in task.losses.named_parameters() if values.equal(before[name])]
    assert [name for name in kept if not name.endswith("projector.0.bias")] == []  # a bias that BatchNorm cancels
