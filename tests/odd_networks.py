"""Networks of a user's own whose weights alone may not be all of them."""

import random

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm
from torch.nn.utils.parametrizations import weight_norm as parametrized


class Plain(nn.Module):
    """Convolutions without normalization."""

    works_with_fast_path = True

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.body(self.stem(images).relu()).relu().mean((2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))  # type: ignore[no-any-return]


class Tied(Plain):
    """Two layers with one weight."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.again.weight = self.body.weight

    def features(self, images: Tensor) -> Tensor:
        return self.again(self.body(self.stem(images).relu()).relu()).relu().mean((2, 3))  # type: ignore[no-any-return]


class Frozen(Plain):
    """A filter that is not trained."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.stem.weight.requires_grad_(False)


class Given(Plain):
    """Its constructor loads weights."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        generator = torch.Generator().manual_seed(5)
        for values in self.parameters():
            values.data.normal_(std=0.3, generator=generator)


class Buffered(Plain):
    """Keeps a mean that its state dict has not."""

    centre: Tensor

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.register_buffer("centre", torch.zeros(6), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        values = super().features(images)
        if self.training:
            self.centre = 0.5 * self.centre + 0.5 * values.detach().mean(0)
        return values - self.centre


class Ordered(Plain):
    """Draws an order when it is built."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.signs = [random.choice([-1.0, 1.0]) for _ in range(60)]

    def features(self, images: Tensor) -> Tensor:
        return super().features(images) * images.new_tensor(self.signs).view(10, 6).sum(0)


class Noisy(Plain):
    """Draws in evaluation mode, too."""

    def features(self, images: Tensor) -> Tensor:
        return super().features(images + torch.randn_like(images))


class Annealed(Plain):
    """Counts its training passes and lets them count; a single one changes nothing that can be seen."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.passes = 0

    def features(self, images: Tensor) -> Tensor:
        self.passes += self.training
        return super().features(images) * (1 + max(0, self.passes - 2))


class Lazy(nn.Module):
    """Takes its shapes from the first image."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.LazyConv2d(6, 3), nn.LazyLinear(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images).relu().mean((2, 3)))  # type: ignore[no-any-return]


class WeightNormed(Plain):
    """By hooks, as before torch 2.0."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        weight_norm(self.stem)


class SpectralNormed(Plain):
    """By hooks."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        spectral_norm(self.stem)


class Parametrized(Plain):
    """By a parametrization."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        parametrized(self.stem)
