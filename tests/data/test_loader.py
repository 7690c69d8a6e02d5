from hashlib import blake2b

import pytest
import torch
from tiny import tiny_images

from kd_lightning.data.loader import BatchLoader, LabelledImages, RowSampler
from kd_lightning.data.split import stratified_split
from kd_lightning.errors import UserError


def make_loader(data: LabelledImages, shuffle: bool = True) -> BatchLoader:
    return BatchLoader(data, RowSampler(torch.arange(len(data.labels)), shuffle=shuffle, seed=3), batch_size=8)


def test_batches_hold_the_rows_they_name_and_every_row_once() -> None:
    data = tiny_images(21, classes=3, seed=0)
    batches = list(make_loader(data))
    assert [len(batch.rows) for batch in batches] == [8, 8, 5]
    assert len(make_loader(data)) == 3
    for batch in batches:
        assert torch.equal(batch.images, data.images[batch.rows])
        assert torch.equal(batch.labels, data.labels[batch.rows])
    assert torch.cat([batch.rows for batch in batches]).sort().values.tolist() == list(range(21))


def test_orders_differ_between_epochs_and_repeat_with_the_epoch() -> None:
    sampler = RowSampler(torch.arange(50), shuffle=True, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(sampler.ordered().tolist())
    assert orders[0] == orders[2] != orders[1]


def test_processes_share_the_rows_evenly_when_training_and_without_repeats_otherwise() -> None:
    rows = torch.arange(10)
    shuffled = [RowSampler(rows, shuffle=True, rank=rank, world_size=4).ordered() for rank in range(4)]
    assert [len(part) for part in shuffled] == [3, 3, 3, 3]
    assert set(torch.cat(shuffled).tolist()) == set(range(10))
    ordered = [RowSampler(rows, shuffle=False, rank=rank, world_size=4).ordered() for rank in range(4)]
    assert sorted(torch.cat(ordered).tolist()) == list(range(10))


def test_a_loader_resumes_in_the_middle_of_its_epoch_only() -> None:
    data = tiny_images(40, classes=4, seed=0)
    whole = [batch.rows.tolist() for batch in make_loader(data)]
    stopped = make_loader(data)
    iterator = iter(stopped)
    for _ in range(2):
        next(iterator)
    resumed = make_loader(data)
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.rows.tolist() for batch in resumed] == whole[2:]
    resumed.sampler.set_epoch(1)
    assert len(list(resumed)) == len(whole)


def test_a_stratified_split_keeps_the_classes_shares_and_loses_no_row() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    first, second = stratified_split(labels, 0.2, seed=1)
    assert torch.bincount(labels[second]).tolist() == [12, 6, 2]
    assert sorted(torch.cat([first, second]).tolist()) == list(range(100))
    again, other = stratified_split(labels, 0.2, seed=1)[1], stratified_split(labels, 0.2, seed=2)[1]
    assert torch.equal(second, again)
    assert not torch.equal(second, other)


def test_a_split_can_be_given_as_a_number_of_images_or_as_nothing() -> None:
    labels = torch.arange(50) % 5
    assert len(stratified_split(labels, 10, seed=0)[1]) == 10
    assert len(stratified_split(labels, 0, seed=0)[1]) == 0


def test_a_last_batch_with_fewer_rows_is_dropped_on_request() -> None:
    data = tiny_images(21, classes=3, seed=0)
    loader = BatchLoader(data, RowSampler(torch.arange(21), shuffle=True), batch_size=8, drop_last=True)
    assert [len(batch.rows) for batch in loader] == [8, 8]
    assert len(loader) == 2
    with pytest.raises(UserError, match="leaves nothing of 21 images in batches of 32"):
        BatchLoader(data, RowSampler(torch.arange(21), shuffle=True), batch_size=32, drop_last=True)


def test_rows_of_a_fixed_order_are_shuffled_once() -> None:
    sampler = RowSampler(torch.arange(50), shuffle=True, seed=3, fixed=True)
    first = sampler.ordered()
    sampler.set_epoch(1)
    assert torch.equal(first, sampler.ordered())
    assert not torch.equal(first, torch.arange(50))


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([1] * 7 + [5], 0.2, [0] * 7 + [1]),
        ([5] + [1] * 7, 0.2, [1] + [0] * 7),
        ([2] * 6, 0.5, [1] * 6),
        ([1, 1, 1, 1, 6, 100], 0.1, [0, 0, 0, 0, 1, 10]),
        ([7, 8, 9, 10], 0.25, [2, 2, 2, 2]),
    ],
)
def test_a_class_gives_its_own_share_whatever_others_cannot_give(
    counts: list[int], size: float, expected: list[int]
) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    second = stratified_split(labels, size, seed=0)[1]
    assert torch.bincount(labels[second], minlength=len(counts)).tolist() == expected


def test_the_split_of_large_classes_is_the_same_in_every_version() -> None:
    rows = stratified_split(torch.arange(10).repeat(5000), 0.1, seed=0)[1]
    assert blake2b(rows.numpy().tobytes(), digest_size=8).hexdigest() == "ecc00c2ecf9c7312"
    uneven = torch.arange(4).repeat_interleave(torch.tensor([13, 57, 101, 8]))
    assert (
        blake2b(stratified_split(uneven, 0.15, seed=3)[1].numpy().tobytes(), digest_size=8).hexdigest()
        == "cd770f6b384fd4b3"
    )
