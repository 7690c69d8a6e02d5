import pytest
import torch
from torch import Tensor, nn

from kd_lightning.losses.feature_regression import feature_map_loss
from kd_lightning.losses.hidden_cosine import cosine_loss, pooled_direction


def tutorial_cosine_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    pooled = nn.functional.avg_pool1d(teacher_map.flatten(1), 2)
    loss: Tensor = nn.CosineEmbeddingLoss()(student_map.flatten(1), pooled, torch.ones(len(pooled)))
    return loss


def our_cosine_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    return cosine_loss(student_map, pooled_direction(teacher_map, student_map.shape[1:]))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cosine_loss_and_its_gradient_are_the_tutorials(memory_format: torch.memory_format) -> None:
    student, teacher = (torch.randn(5, channels, 8, 8).to(memory_format=memory_format) for channels in (16, 32))
    student.requires_grad_()
    expected, ours = tutorial_cosine_loss(student, teacher), our_cosine_loss(student, teacher)
    assert torch.allclose(ours, expected, atol=1e-6)
    [expected_gradient], [gradient] = (torch.autograd.grad(loss, student) for loss in (expected, ours))
    assert torch.allclose(gradient, expected_gradient, atol=1e-7)


def test_cosine_loss_of_a_map_of_zeros_is_the_tutorials() -> None:
    for student, teacher in (
        (torch.zeros(2, 1, 2, 2), torch.ones(2, 2, 2, 2)),
        (torch.ones(2, 1, 2, 2), torch.zeros(2, 2, 2, 2)),
    ):
        assert our_cosine_loss(student, teacher) == tutorial_cosine_loss(student, teacher) == 1


def test_cosine_loss_sums_maps_of_half_precision_in_single() -> None:
    student, teacher = torch.randn(5, 16, 8, 8).bfloat16(), torch.randn(5, 32, 8, 8).bfloat16()
    loss = our_cosine_loss(student, teacher)
    assert loss.dtype == torch.float32
    assert loss == pytest.approx(float(our_cosine_loss(student.float(), teacher.float())), abs=1e-3)
    assert our_cosine_loss(student.double(), teacher.double()).dtype == torch.float64


def test_cosine_loss_refuses_maps_that_do_not_pool_or_compare() -> None:
    with pytest.raises(ValueError, match="3 teacher values do not pool to the student's 2"):
        our_cosine_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="have different shapes"):
        cosine_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 2, 1))


def test_feature_map_loss_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="have different shapes"):
        feature_map_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
