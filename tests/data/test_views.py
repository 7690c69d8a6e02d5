import torch

from kd_lightning.data.augment import (
    AlternatingFlip,
    Augmentation,
    CutMix,
    HorizontalFlip,
    Pipeline,
    RandAugment,
    RandomCrop,
)
from kd_lightning.data.counter_rng import EPOCHS
from kd_lightning.data.views import Views

ROWS = torch.arange(200)


def views(count: int | None, *steps: Augmentation) -> Views:
    return Views(Pipeline(steps, 4), count)


def numbers(of: Views, epoch: int) -> torch.Tensor:
    result = of.numbers(ROWS, of.drawn(ROWS, epoch))
    assert result is not None
    return result


def test_views_are_counted_where_they_can_be() -> None:
    assert views(None).count == 1
    assert views(None, HorizontalFlip()).count == 2
    assert views(7, HorizontalFlip()).count == 2
    assert views(7, HorizontalFlip(), RandomCrop()).count == 7
    assert views(None, RandomCrop()).count is None
    assert views(7, RandomCrop(), CutMix()).count is None


def test_every_cycle_shows_every_view_of_every_image_once() -> None:
    of = views(5, RandomCrop())
    for start in (0, 5, 10):
        seen = torch.stack([numbers(of, (3 * EPOCHS) + start + epoch) for epoch in range(5)])
        assert torch.equal(seen.sort(0).values, torch.arange(5).unsqueeze(1).expand(5, 200))


def test_images_of_one_epoch_are_seen_in_different_views_and_runs_take_them_in_another_order() -> None:
    of = views(5, RandomCrop())
    assert len(numbers(of, 0).unique()) == 5
    assert not torch.equal(numbers(of, 0), numbers(of, EPOCHS))
    assert not torch.equal(numbers(of, 0), numbers(of, 5))


def test_a_view_of_a_number_is_the_one_that_training_shows_in_any_run() -> None:
    images = torch.randint(0, 255, (200, 3, 8, 8), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(200, dtype=torch.int64)
    steps = AlternatingFlip(), RandAugment()
    for of in (views(3, RandomCrop(2), HorizontalFlip()), views(4, *steps), views(None, steps[0]), views(None)):
        for epoch in (0, 4, 7 * EPOCHS + 2):
            drawn = of.drawn(ROWS, epoch)
            seen, _ = of.pipeline(images, labels, ROWS, epoch, drawn)
            for number in range(of.count or 0):
                chosen = of.numbers(ROWS, drawn) == number
                assert torch.equal(seen[chosen], of.show(images, labels, ROWS, number)[chosen])


def test_an_epoch_in_a_tensor_draws_what_the_number_draws() -> None:
    of = views(3, RandomCrop())
    for epoch in (0, 5, 2 * EPOCHS + 1):
        assert bool((numbers(of, epoch) == of.drawn(ROWS, torch.tensor(epoch))).all())
