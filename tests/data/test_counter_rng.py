"""The random numbers of an image are uniform, independent and the same everywhere."""

from hashlib import blake2b

import pytest
import torch

from kd_lightning.data import counter_rng

ROWS = torch.arange(50_000)


def _reference(row: int, epoch: int, seed: int, column: int, stream: str) -> int:
    """Compute 64 bits with Python's integers: SplitMix64's finalizer as it is published."""
    key = int.from_bytes(blake2b(f"{stream}:{seed}".encode(), digest_size=8).digest(), "little")
    z = (key + epoch * 0x9E3779B97F4A7C15 + row * 0x2545F4914F6CDD1D + column * 0xD1342543DE82EF95) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_bits_equal_splitmix64_in_exact_arithmetic() -> None:
    rows = [0, 1, 7, 49_999, 10**9]
    result = counter_rng.bits(torch.tensor(rows), epoch=12, seed=-3, count=4, stream="crop")
    wanted = [[_reference(row, 12, -3, column, "crop") for column in range(4)] for row in rows]
    assert [[value % 2**64 for value in line] for line in result.tolist()] == wanted


def test_draws_are_the_same_in_every_version() -> None:
    result = counter_rng.uniform(torch.tensor([0, 1, 2]), epoch=5, seed=42, count=2, stream="RandomCrop")
    assert (result * 2**24).tolist() == [[12659415, 2975029], [1700867, 9946422], [15546243, 14183908]]


def test_an_epoch_in_a_tensor_draws_as_the_number_does() -> None:
    assert torch.equal(counter_rng.bits(ROWS, torch.tensor(9), 1, 2), counter_rng.bits(ROWS, 9, 1, 2))


def test_draws_do_not_depend_on_the_batch() -> None:
    order = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0))
    whole = counter_rng.uniform(ROWS, 1, 2, 3, "a")
    assert torch.equal(counter_rng.uniform(ROWS[order][:100], 1, 2, 3, "a"), whole[order][:100])
    assert torch.equal(counter_rng.uniform(ROWS, 1, 2, 1, "a"), whole[:, :1])


def test_draws_are_uniform_in_zero_to_one() -> None:
    values = counter_rng.uniform(ROWS, 0, 0, 8).flatten()
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.bincount((values * 256).long(), minlength=256).double()
    chi_square = ((counts - len(values) / 256) ** 2 / (len(values) / 256)).sum()
    assert 170 < chi_square < 350  # 255 degrees of freedom: 4 standard deviations to each side


@pytest.mark.parametrize(
    "other",
    [
        counter_rng.uniform(ROWS + 1, 3, 0, 2, "a"),
        counter_rng.uniform(ROWS, 4, 0, 2, "a"),
        counter_rng.uniform(ROWS, 3, 1, 2, "a"),
        counter_rng.uniform(ROWS, 3, 0, 2, "b"),
        counter_rng.uniform(ROWS, 3, 0, 2, "a").flip(1),
    ],
    ids=["row", "epoch", "seed", "stream", "column"],
)
def test_draws_of_another_row_epoch_seed_stream_and_column_are_independent(other: torch.Tensor) -> None:
    pairs = (counter_rng.uniform(ROWS, 3, 0, 2, "a")[:, 0] * 16).long() * 16 + (other[:, 0] * 16).long()
    counts = torch.bincount(pairs, minlength=256).double()  # all 16 x 16 are equally often
    chi_square = ((counts - len(pairs) / 256) ** 2 / (len(pairs) / 256)).sum()
    assert 170 < chi_square < 350


def test_no_two_counters_of_a_long_training_meet() -> None:
    sparse = torch.arange(0, 1_000_000, 997)
    numbers = torch.cat([counter_rng.bits(sparse, epoch, 0, 8, "a").flatten() for epoch in range(200)])
    assert len(torch.unique(numbers)) == len(numbers)


def test_integers_reach_all_values_and_never_the_count() -> None:
    largest = torch.tensor(1 - 2.0**-24)
    assert all(counter_rng.integers(largest, count) == count - 1 for count in (*range(1, 2000), 65_535, 65_537, 2**24))
    values = counter_rng.integers(counter_rng.uniform(ROWS, 0, 0, 1), 9)
    assert torch.bincount(values.flatten()).min() > 0.95 * len(ROWS) / 9
    assert set(values.flatten().tolist()) == set(range(9))
