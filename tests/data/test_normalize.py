"""Normalization equals its formula, and the statistics are exact."""

import numpy as np
import pytest
import torch

from kd_lightning.data import normalize
from kd_lightning.data.normalize import IMAGENET, Normalization, channel_statistics
from kd_lightning.errors import UserError


def _images(count: int, size: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, size, size + 1, channels), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    ("mean", "std"), [IMAGENET, ((0.1307,), (0.3081,)), ((0.1, 0.2, 0.3, 0.4), (1.0, 2.0, 3.0, 4.0))]
)
def test_normalization_equals_its_formula(mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype) -> None:
    images = _images(5, 7, len(mean)).permute(0, 3, 1, 2).to(dtype)
    result = Normalization(mean, std).apply(images)
    shape = (1, -1, 1, 1)
    wanted = (images.double() / 255 - torch.tensor(mean).double().view(shape)) / torch.tensor(std).double().view(shape)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.double(), wanted, rtol=1e-6, atol=1e-6)


def test_normalization_first_used_in_inference_mode_still_lets_gradients_through() -> None:
    normalization = Normalization((0.25,), (0.5,))
    images = torch.full((2, 1, 3, 3), 51.0)
    with torch.inference_mode():
        normalization.apply(images)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(normalization.apply(images).sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(images, 1 / (255 * 0.5)))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((float("nan"),), (1.0,))])
def test_values_that_are_not_a_normalization_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UserError):
        Normalization(mean, std)


def test_images_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 channel.*of 3"):
        Normalization(*IMAGENET).apply(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_equal_numpys_in_float64(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "VALUES_AT_ONCE", 1000)  # several chunks, the last one shorter
    images = _images(53, 6, channels)
    scaled = images.numpy().astype(np.float64) / 255
    result = channel_statistics(images)
    np.testing.assert_allclose(result.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(result.std, scaled.std(axis=(0, 1, 2)), rtol=1e-13)


def test_statistics_of_known_pixels_are_exact() -> None:
    images = torch.tensor([0, 255, 255, 255], dtype=torch.uint8).view(1, 2, 2, 1)
    assert channel_statistics(images) == Normalization((0.75,), (0.1875**0.5,))


def test_statistics_keep_their_last_digit_far_from_zero() -> None:
    images = torch.full((3, 500, 500, 1), 254, dtype=torch.uint8)
    images[0, 0, 0] = 255  # one pixel of 750,000: the textbook formula in float32 gives 0 or nan
    count = images.numel()
    assert channel_statistics(images).std[0] == pytest.approx(((count - 1) / count**2) ** 0.5 / 255, rel=1e-14)


def test_statistics_of_some_rows_leave_the_others_out() -> None:
    images = _images(10, 4, 3)
    rows = torch.tensor([7, 0, 3])
    assert channel_statistics(images, rows) == channel_statistics(images[rows])


def test_statistics_of_nothing_and_of_constant_images_are_refused() -> None:
    with pytest.raises(UserError, match="no images"):
        channel_statistics(torch.empty(0, 4, 4, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="std must be above 0"):
        channel_statistics(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
