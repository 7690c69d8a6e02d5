"""The augmentations' draws, and the pipeline."""

from collections.abc import Callable, Sequence

import pytest
import torch
from augment_examples import ALL, BATCH, CLASSES, EPOCH, HEIGHT, UNMIXED, WIDTH, make_batch, name, run
from jsonargparse import ArgumentParser
from torch import Tensor

from kd_lightning.data.augment import (
    AlternatingFlip,
    Augmentation,
    ColorJitter,
    CutMix,
    Cutout,
    HorizontalFlip,
    Pipeline,
    PixelMove,
    RandAugment,
    RandomCrop,
    RandomTranslate,
)
from kd_lightning.data.counter_rng import EPOCHS
from kd_lightning.errors import UserError


def count_different(values: Tensor) -> int:
    return len(torch.unique(values, dim=0))


@pytest.mark.parametrize("step", ALL, ids=name)
def test_a_batch_keeps_shape_range_and_memory_order_and_its_inputs_stay(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    before = images.clone(), labels.clone(), rows.clone()
    result, _ = run(step, images, labels, rows)
    assert result.shape == images.shape
    assert result.dtype in (torch.uint8, torch.float32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.min() >= 0
    assert result.max() <= 255
    assert not torch.equal(result.float(), images.float())
    assert all(torch.equal(*pair) for pair in zip(before, (images, labels, rows), strict=True))


@pytest.mark.parametrize("step", UNMIXED, ids=name)
def test_an_image_comes_out_the_same_in_any_batch(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    whole = run(step, images, labels, rows)[0]
    some = torch.tensor([9, 2, 17])
    assert torch.equal(run(step, images[some], labels[some], rows[some])[0], whole[some])


@pytest.mark.parametrize("step", ALL, ids=name)
def test_images_of_a_batch_have_different_draws(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    if step.mixes_labels:
        assert count_different(run(step, images, labels, rows)[1].amax(dim=1)) > BATCH // 3
    else:
        same = images[:1].expand_as(images).contiguous(memory_format=torch.channels_last)
        assert count_different(run(step, same, labels, rows)[0]) > (1 if step.flips_only else BATCH // 3)


@pytest.mark.parametrize("step", ALL, ids=name)
def test_another_epoch_and_another_seed_give_another_batch(step: Augmentation) -> None:
    batch = make_batch()
    arguments = {**vars(step), "seed": step.seed + 1}
    first = run(step, *batch)[0]
    assert torch.equal(run(type(step)(**arguments | {"seed": step.seed}), *batch)[0], first)
    assert not torch.equal(run(step, *batch, epoch=EPOCH + 1)[0], first)
    assert not torch.equal(run(type(step)(**arguments), *batch)[0], first)


@pytest.mark.parametrize("step", ALL, ids=name)
def test_an_epoch_in_a_tensor_gives_the_same_batch(step: Augmentation) -> None:
    batch = make_batch()
    for one, other in zip(run(step, *batch), run(step, *batch, epoch=torch.tensor(EPOCH)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("step", ALL, ids=name)
def test_no_step_reads_values_from_the_device(step: Augmentation) -> None:
    images, labels, rows = (part.to("meta") for part in make_batch())  # reading a value into Python is an error here
    result, _ = run(step, images, labels, rows, epoch=torch.tensor(EPOCH, device="meta"))
    assert result.shape == images.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("step", ALL, ids=name)
def test_a_cuda_graph_replays_the_batches_of_the_cpu(step: Augmentation) -> None:
    images, labels, rows = make_batch()
    on_gpu = images.cuda(), labels.cuda(), rows.cuda()
    epoch = torch.tensor(0, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run(step, *on_gpu, epoch=epoch)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = run(step, *on_gpu, epoch=epoch)
    for number in (0, 7):
        epoch.fill_(number)
        graph.replay()
        for one, other in zip(captured, run(step, images, labels, rows, epoch=number), strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-3 if one.is_floating_point() else 0)


def test_crops_and_translations_reach_all_places_equally() -> None:
    rows = torch.arange(20_000)
    tops, lefts = RandomCrop(padding=2).draw(rows, 0)
    counts = torch.bincount(tops * 5 + lefts, minlength=25)
    assert counts.min() > 0.85 * 800
    assert counts.max() < 1.15 * 800
    down, right = RandomTranslate(fraction=0.2).draw(rows, 0, (10, 5))
    assert sorted(set(down.tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set(right.tolist())) == [-1, 0, 1]


def test_cutout_takes_its_whole_square_inside_and_a_part_at_the_border() -> None:
    boxes = Cutout(size=4).draw(torch.arange(2000), 0, (HEIGHT, WIDTH))
    heights, widths = boxes.bottom - boxes.top, boxes.right - boxes.left
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}
    assert boxes.bottom.max() == HEIGHT
    assert boxes.right.max() == WIDTH


def test_colour_factors_fill_their_ranges() -> None:
    factors = ColorJitter(brightness=0.2, contrast=1.5, saturation=0, hue=0.5).draw(torch.arange(20_000), 0)
    ranges = [(factor.min().item(), factor.max().item()) for factor in factors]
    wanted = [(0.8, 1.2), (0, 2.5), (1, 1), (-0.5, 0.5)]
    assert all(one == pytest.approx(other, abs=2e-3) for one, other in zip(ranges, wanted, strict=True))


@pytest.mark.parametrize(
    "moves",
    [
        [RandomCrop(padding=5, mode="zeros"), HorizontalFlip(), RandomCrop(padding=5, seed=1), RandomTranslate(0.5)],
        [RandomTranslate(1.0), RandomTranslate(1.0, seed=1), RandomCrop(padding=11)],
    ],
    ids=lambda moves: "-".join(type(move).__name__ for move in moves),
)
def test_moves_in_one_gather_equal_moves_one_by_one(moves: Sequence[PixelMove]) -> None:
    images, labels, rows = make_batch()
    one_by_one = images
    for move in moves:
        one_by_one = move.apply(one_by_one, labels, rows, EPOCH)[0]
    assert torch.equal(Pipeline(moves, CLASSES)(images, labels, rows, EPOCH)[0], one_by_one)


def test_steps_run_in_the_order_of_the_config() -> None:
    images, labels, rows = make_batch()
    steps = [RandomCrop(padding=3), Cutout(size=5), HorizontalFlip(), ColorJitter(), CutMix(), RandomTranslate()]
    result, mixed = Pipeline(steps, CLASSES)(images, labels, rows, EPOCH)
    for step in steps[:4]:
        images, _ = step.apply(images, labels, rows, EPOCH)
    images, wanted = run(steps[4], images, labels, rows)
    assert torch.equal(result, steps[5].apply(images, wanted, rows, EPOCH)[0])
    assert torch.equal(mixed, wanted)


def test_flips_alternate_from_a_random_first_one_and_by_the_run() -> None:
    rows = torch.arange(1000)
    flip = AlternatingFlip()
    first = flip.draw(rows, 5 * EPOCHS)
    assert 400 < first.sum() < 600
    for epoch in range(1, 5):
        assert torch.equal(flip.draw(rows, 5 * EPOCHS + epoch), first ^ bool(epoch % 2))
    assert not torch.equal(flip.draw(rows, 6 * EPOCHS), first)


def test_a_pipeline_of_flips_returns_which_images_are_mirrored() -> None:
    images, labels, rows = make_batch()
    pipeline = Pipeline([HorizontalFlip(), HorizontalFlip(0.4, seed=1)], CLASSES)
    flipped = pipeline.flipped(rows, EPOCH)
    assert 0 < flipped.sum() < BATCH
    result = pipeline(images, labels, rows, EPOCH)[0]
    assert torch.equal(result, torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomCrop(padding=0),
        lambda: RandomTranslate(fraction=0),
        lambda: HorizontalFlip(probability=1.5),
        lambda: Cutout(size=0),
        lambda: ColorJitter(hue=0.6),
        lambda: CutMix(alpha=float("nan")),
        lambda: RandAugment(num_ops=0),
        lambda: RandAugment(magnitude=31),
        lambda: Pipeline([RandomCrop(2), RandomCrop(3)], CLASSES),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=r"--data\.augment"):
        make()


def test_a_reflection_wider_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"padding of RandomCrop is 12: give less than the images' 12 pixels"):
        run(RandomCrop(padding=HEIGHT), *make_batch())


def test_a_config_names_augmentations_only_by_their_class() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--augment", type=list[Augmentation])
    found = parser.parse_object(
        {"augment": ["HorizontalFlip", {"class_path": "RandomCrop", "init_args": {"padding": 2}}]}
    )
    assert parser.instantiate(found).augment == [HorizontalFlip(), RandomCrop(padding=2)]
