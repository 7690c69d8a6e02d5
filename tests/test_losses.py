import pytest
import torch
from torch import nn

from kd_lightning.losses import feature_map_loss, flattened_cosine_loss


def test_cosine_loss_is_the_seeds() -> None:
    student, teacher = torch.randn(5, 16, 8, 8), torch.randn(5, 32, 8, 8)
    pooled = nn.functional.avg_pool1d(teacher.flatten(1), 2)
    expected = nn.CosineEmbeddingLoss()(student.flatten(1), pooled, torch.ones(5))
    assert torch.allclose(flattened_cosine_loss(student, teacher), expected, atol=1e-6)


def test_cosine_loss_is_zero_for_the_same_direction_and_two_for_the_opposite() -> None:
    maps = torch.randn(4, 2, 3, 3)
    assert flattened_cosine_loss(maps, 7 * maps) == pytest.approx(0, abs=1e-6)
    assert flattened_cosine_loss(maps, -maps) == pytest.approx(2, abs=1e-6)


def test_cosine_loss_refuses_maps_that_do_not_pool() -> None:
    with pytest.raises(ValueError, match="3 teacher values do not pool to the student's 2"):
        flattened_cosine_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 3, 1, 1))


def test_feature_map_loss_is_the_mean_of_squares() -> None:
    assert feature_map_loss(torch.full((2, 3, 4, 4), 5.0), torch.full((2, 3, 4, 4), 2.0)) == 9


def test_feature_map_loss_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="do not compare"):
        feature_map_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
