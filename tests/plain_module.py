"""A user's network that is independent of this project, and a loss with a wrong shape."""

from torch import Tensor, nn

from kd_lightning.losses import LogitLoss


class PlainNet(nn.Module):
    """A stem, a block and a head."""

    works_with_fast_path = True

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(width, 2 * width, 3, padding=1))
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.block(self.norm(self.stem(images))).mean((2, 3)))  # type: ignore[no-any-return]


class ImageByImage(LogitLoss):
    """Gives a number for each image."""

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return (B,), where a scalar is expected."""
        return (student - teacher).square().mean(1)
