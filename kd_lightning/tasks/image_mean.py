"""The mean over images of what is measured batch by batch."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ImageMean(Metric):
    """Mean of the batches' means, each weighted with its number of images; it never waits for the device.

    (torchmetrics' ``MeanMetric`` waits to look for NaNs, and forgets the weights when that is disabled.)
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, mean: Tensor, images: int) -> None:
        """Count a batch's mean, a scalar, and its number of images."""
        self.total += mean * images
        self.count += images

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.count
