"""Mixup and CutMix: pairs, weights and labels."""

import pytest
import torch
from augment_examples import BATCH, CLASSES, EPOCH, HEIGHT, WIDTH, make_batch, name, run

from kd_lightning.data.augment import Augmentation, CutMix, Mixup
from kd_lightning.data.augment.mixing import symmetric_beta


@pytest.mark.parametrize("step", [Mixup(), CutMix()], ids=name)
def test_mixed_images_come_out_the_same_in_any_order_of_their_batch(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    whole = run(step, images, labels, rows)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(2))
    for one, other in zip(run(step, images[order], labels[order], rows[order]), whole, strict=True):
        assert torch.equal(one, other[order])


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 100.0])
def test_beta_draws_follow_the_distribution(alpha: float) -> None:
    beta = pytest.importorskip("scipy.stats").beta(alpha, alpha)
    steps = torch.arange(0, 2**16) / 2**16
    values = symmetric_beta(steps, alpha)
    lower = (values > 0) & (steps < 0.5)  # near 1, float32 is too coarse
    assert (values.diff() >= 0).all()
    assert abs(beta.cdf(values[lower].double().numpy()) - steps[lower].numpy()).max() < 5e-4
    torch.testing.assert_close(values[1:] + values[1:].flip(0), torch.ones(2**16 - 1), rtol=0, atol=1e-5)
    assert values.double().var().item() == pytest.approx(beta.var(), rel=1e-3)


@pytest.mark.parametrize("step", [Mixup(), CutMix()], ids=name)
def test_mixed_labels_are_probabilities_of_the_two_classes(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    mixed = run(step, images, labels, rows)[1]
    assert mixed.shape == (BATCH, CLASSES)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(BATCH))
    assert mixed.min() >= 0
    assert (mixed > 0).sum(dim=1).max() <= 2
    assert (mixed[torch.arange(BATCH), labels] > 0).sum() > BATCH // 2


def test_every_image_has_one_partner_and_is_the_partner_of_one_other() -> None:
    rows = make_batch()[2]
    partners = Mixup().draw(rows, EPOCH).partners
    assert sorted(partners.tolist()) == list(range(BATCH))
    assert (partners != torch.arange(BATCH)).all()
    assert not torch.equal(partners, Mixup().draw(rows, EPOCH + 1).partners)


def test_a_single_image_is_mixed_with_itself() -> None:
    images, labels, rows = make_batch(count=1)
    for step in (Mixup(), CutMix()):
        result, mixed = run(step, images, labels, rows)
        torch.testing.assert_close(result.float(), images.float())
        assert mixed.argmax(dim=1).tolist() == labels.tolist()


def test_cutmix_gives_the_label_the_share_of_its_pixels() -> None:
    labels, rows = torch.tensor([0, 1]), torch.tensor([4, 8])
    images = torch.stack([torch.zeros(1, HEIGHT, WIDTH), torch.ones(1, HEIGHT, WIDTH)])
    result, mixed = run(CutMix(), images, labels, rows)
    torch.testing.assert_close(result.mean(dim=(1, 2, 3)), mixed[:, 1])
