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
        """Count a batch's mean, a scalar, or those of several equally large batches, (N,), and their number of images."""
        self.total += mean.to(self.total.dtype).mean() * images  # in float32: bfloat16 would round
        self.count += images

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.count
