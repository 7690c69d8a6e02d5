"""Each augmentation equals torchvision's for the same draw."""

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2 as tv
import torchvision.transforms.v2.functional as tvf
from augment_examples import ALL, CLASSES, EPOCH, HEIGHT, UNMIXED, WIDTH, make_batch, run
from torch import Tensor

from kd_lightning.data import augment
from kd_lightning.data.augment import (
    Augmentation,
    ColorJitter,
    CutMix,
    Cutout,
    HorizontalFlip,
    Mixup,
    PixelMove,
    RandAugment,
    RandomCrop,
    RandomTranslate,
    TrivialAugment,
)
from kd_lightning.data.augment.mixing import symmetric_beta
from kd_lightning.data.augment.operations import NAMES, Operations


def crop_by_torchvision(step: RandomCrop, images: Tensor, rows: Tensor) -> Tensor:
    mode = "constant" if step.mode == "zeros" else "reflect"
    padded = tvf.pad(images, [step.padding], padding_mode=mode)
    places = step.draw(rows, EPOCH).T.tolist()
    return torch.stack([tvf.crop(x, top, left, HEIGHT, WIDTH) for x, (top, left) in zip(padded, places, strict=True)])


def translate_by_torchvision(step: RandomTranslate, images: Tensor, rows: Tensor) -> Tensor:
    shifts = torch.stack(step.draw(rows, EPOCH, (HEIGHT, WIDTH)), dim=1).tolist()
    return torch.stack(
        [
            tvf.affine(x, angle=0, translate=[right, down], scale=1, shear=[0, 0])
            for x, (down, right) in zip(images, shifts, strict=True)
        ]
    )


def flip_by_torchvision(step: HorizontalFlip, images: Tensor, rows: Tensor) -> Tensor:
    flips = step.draw(rows, EPOCH).tolist()
    return torch.stack([tvf.horizontal_flip(x) if flip else x for x, flip in zip(images, flips, strict=True)])


def cutout_by_torchvision(step: Cutout, images: Tensor, rows: Tensor) -> Tensor:
    boxes = torch.stack(step.draw(rows, EPOCH, (HEIGHT, WIDTH)), dim=1).tolist()
    return torch.stack(
        [
            tvf.erase(x, i=top, j=left, h=bottom - top, w=right - left, v=torch.zeros((), dtype=x.dtype))
            for x, (top, bottom, left, right) in zip(images, boxes, strict=True)
        ]
    )


def jitter_by_torchvision(step: ColorJitter, images: Tensor, rows: Tensor) -> Tensor:
    results = []
    for x, factors in zip(images / 255, torch.stack(step.draw(rows, EPOCH), dim=1).tolist(), strict=True):
        x = tvf.adjust_contrast(tvf.adjust_brightness(x, factors[0]), factors[1])
        results.append(tvf.adjust_hue(tvf.adjust_saturation(x, factors[2]), factors[3]))
    return torch.stack(results) * 255


def operate_by_torchvision(step: TrivialAugment | RandAugment, images: Tensor, rows: Tensor) -> Tensor:
    if isinstance(step, TrivialAugment):
        draws, transform = [step.draw(rows, EPOCH)], tv.TrivialAugmentWide()
    else:
        draws, transform = step.draw(rows, EPOCH), tv.RandAugment(1, step.magnitude)
    for draw in draws:
        images = torch.stack([change_by_torchvision(transform, x, draw, at) for at, x in enumerate(images)])
    return images


def change_by_torchvision(
    transform: tv.TrivialAugmentWide | tv.RandAugment, image: Tensor, draw: Operations, at: int
) -> Tensor:
    """Apply one operation of torchvision's own table, at a drawn strength."""
    kind, level = NAMES[draw.kinds[at]], int(draw.levels[at])
    values, signed = transform._AUGMENTATION_SPACE[kind]
    strengths = values(31, *image.shape[1:])
    strength = 0.0 if strengths is None else float(strengths[level // 2]) * (-1 if signed and level % 2 else 1)
    nearest, black = tvf.InterpolationMode.NEAREST, {Tensor: 0}
    changed: Tensor = transform._apply_image_or_video_transform(image, kind, strength, nearest, black)
    return changed


REPLAYS: list[tuple[Augmentation, Callable[..., Tensor]]] = [
    (ALL[0], crop_by_torchvision),
    (ALL[1], crop_by_torchvision),
    (ALL[2], translate_by_torchvision),
    (ALL[3], flip_by_torchvision),
    (ALL[4], cutout_by_torchvision),
    (ALL[5], jitter_by_torchvision),
    (ALL[6], flip_by_torchvision),
    (ALL[7], operate_by_torchvision),
    (ALL[8], operate_by_torchvision),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("step", "replay"), REPLAYS, ids=map(str, UNMIXED))
def test_an_image_equals_torchvisions_for_the_same_draw(
    step: Augmentation, replay: Callable[..., Tensor], channels: int
) -> None:
    images, labels, rows = make_batch(channels)
    result, result_labels = run(step, images, labels, rows)
    wanted = replay(step, images, rows)
    if isinstance(step, ColorJitter):
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-3)  # of 255
    elif isinstance(step, RandAugment | TrivialAugment):
        torch.testing.assert_close(result, wanted, rtol=0, atol=1)  # colours are cut to whole numbers
    else:
        assert torch.equal(result, wanted)
    assert torch.equal(result_labels, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [TrivialAugment(), RandAugment(1)], ids=["trivial", "rand"])
def test_an_operation_equals_torchvisions_at_every_strength(
    monkeypatch: pytest.MonkeyPatch, step: TrivialAugment | RandAugment, name: str
) -> None:
    levels = torch.arange(62)
    images, labels, rows = make_batch(3, len(levels))
    draw = Operations(torch.full_like(levels, NAMES.index(name)), levels)
    trivial = isinstance(step, TrivialAugment)
    monkeypatch.setattr(type(step), "draw", lambda *_: draw if trivial else [draw])
    transform = tv.TrivialAugmentWide() if trivial else tv.RandAugment()
    result = run(step, images, labels, rows)[0]
    wanted = torch.stack([change_by_torchvision(transform, image, draw, at) for at, image in enumerate(images)])
    if name in ("Color", "Sharpness"):  # rounding before the cut to whole numbers
        torch.testing.assert_close(result, wanted, rtol=0, atol=1)
        assert (result != wanted).float().mean() < 0.01
    elif name.startswith("Shear") and not trivial:  # at three strengths a source lies between two pixels
        same = (result == wanted).flatten(1).all(1)
        assert (~same).sum() <= 6
    else:
        assert torch.equal(result, wanted)


def test_float_images_move_as_uint8_images_do() -> None:
    images, labels, rows = make_batch()
    for step in ALL[:5]:
        assert torch.equal(run(step, images.float(), labels, rows)[0], run(step, images, labels, rows)[0].float())


def test_mixup_of_a_pair_equals_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, rows = make_batch()
    step = Mixup(alpha=0.7)
    result, result_labels = run(step, images, labels, rows)
    weights, partners = step.draw(rows, EPOCH)
    for at, (weight, partner) in enumerate(zip(weights, partners.tolist(), strict=True)):
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda *_, weight=weight: weight)
        pair, pair_labels = tv.MixUp(num_classes=CLASSES)(images[[partner, at]].float(), labels[[partner, at]])
        torch.testing.assert_close(result[at], pair[1], rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(result_labels[at], pair_labels[1])


def test_cutmix_of_a_pair_equals_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, rows = make_batch()
    step = CutMix(alpha=0.7)
    result, result_labels = run(step, images, labels, rows)
    partners = step.draw(rows, EPOCH, (HEIGHT, WIDTH))[0].partners.tolist()
    shares, ys, xs = step.uniform(rows, EPOCH, 3)  # torchvision makes the rectangle and the weight from these
    for at, partner in enumerate(partners):
        places = iter([(xs[at : at + 1] * WIDTH).long(), (ys[at : at + 1] * HEIGHT).long()])
        weight = symmetric_beta(shares[at : at + 1], 0.7)
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda *_, weight=weight: weight)
        monkeypatch.setattr(torch, "randint", lambda *_, places=places, **__: next(places))
        pair, pair_labels = tv.CutMix(num_classes=CLASSES)(images[[partner, at]], labels[[partner, at]])
        assert torch.equal(result[at], pair[1])
        torch.testing.assert_close(result_labels[at], pair_labels[1])


def test_every_augmentation_is_compared_with_torchvision() -> None:
    public = {value for value in vars(augment).values() if isinstance(value, type) and issubclass(value, Augmentation)}
    assert {type(step) for step, _ in REPLAYS} | {Mixup, CutMix} == public - {Augmentation, PixelMove}
