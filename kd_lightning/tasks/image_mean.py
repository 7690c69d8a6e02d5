"""The mean over images of values that are measured batch by batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class ImageMean(Metric):
    """Mean of the batches' means, each weighted with its number of images; it never waits for the device.

    (torchmetrics' ``MeanMetric`` waits to look for NaNs, and drops the weights when that is disabled.)
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move to the task's device, but stay in float32: bfloat16 cannot count to 257."""
        return super()._apply(lambda values: fn(values).to(torch.float32), exclude_state)

    def update(self, mean: Tensor, images: int) -> None:
        """Add the mean of a batch, a scalar, or of equally large batches, (N,), with their number of images."""
        self.total += mean.to(self.total.dtype).mean() * images
        self.count += images

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.count
