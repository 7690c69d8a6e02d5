"""BatchNorm over the images of all processes (``--trainer.sync_batchnorm``), on a CPU too, which torch refuses."""

from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd_lightning.losses.base import to_float32
from kd_lightning.machine.processes import process_count, process_rank


class Synchronized(_BatchNorm):
    """Batch normalization by the mean and variance of equally many images of each process."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values (B, C, ...), normalized; in evaluation by the running statistics, as ever."""
        if not self.training or process_count() == 1:
            return super().forward(values)
        wide, shape = to_float32(values), (1, -1, *[1] * (values.ndim - 2))
        mean, variance = across_processes(wide)
        if self.running_mean is not None:
            self._update(mean.detach(), variance.detach(), values.numel() // values.shape[1] * process_count())
        found = (wide - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            found = torch.addcmul(self.bias.view(shape), found, self.weight.view(shape))
        return found.to(values.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch with a number of values a channel."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(1, count - 1), share)


def across_processes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and variance in all processes, (C,) each, of values (B, C, ...)."""
    from torch.distributed.nn.functional import all_reduce  # some builds of torch lack it

    over = [0, *range(2, values.ndim)]
    own = torch.stack([values.mean(over), values.var(over, correction=0)])  # (2, C)
    parts = own.new_zeros(process_count(), *own.shape)
    parts[process_rank()] = own
    means, variances = all_reduce(parts).unbind(1)  # (processes, C) each; its gradient is summed over the processes
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


class SyncBatchNorm(LayerSync):
    """What Lightning's ``sync_batchnorm`` does on GPUs; on CPUs, the same by ``Synchronized``."""

    def __init__(self) -> None:
        self._of_gpus = TorchSyncBatchNorm()
        self._kinds: list[tuple[nn.Module, type[nn.Module]]] = []

    def apply(self, model: Any) -> nn.Module:
        """Synchronize the BatchNorm layers of a task."""
        if model.trainer.strategy.root_device.type != "cpu":
            return self._of_gpus.apply(model)
        self._kinds = [(layer, type(layer)) for layer in model.modules() if isinstance(layer, _BatchNorm)]
        for layer, kind in self._kinds:
            layer.__class__ = type(kind.__name__, (Synchronized, kind), {})
        return model  # type: ignore[no-any-return]

    def revert(self, model: Any) -> nn.Module:
        """Restore the layers."""
        if model.trainer.strategy.root_device.type != "cpu":
            return self._of_gpus.revert(model)
        for layer, kind in self._kinds:
            layer.__class__ = kind
        return model  # type: ignore[no-any-return]


def with_sync(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a trainer that synchronize BatchNorm, where its own option ``sync_batchnorm`` is set."""
    if not trainer.get("sync_batchnorm"):
        return {}
    plugins = trainer.get("plugins") or []
    given = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    return {"sync_batchnorm": False, "plugins": [*given, SyncBatchNorm()]}
