"""The message when processes that train together lose one another."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd_lightning.training.processes import lost_process
from kd_lightning.training.sync_batch_norm import SyncBatchNorm


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch trains on one process only")
def test_a_process_that_never_started_is_reported_as_one_that_ended_and_other_errors_are_not() -> None:
    lost = lost_process(torch.distributed.DistStoreError("Timed out after 11 seconds waiting for clients. 1/2 joined."))
    assert "another process of this run has ended or does not answer (Timed out after 11 seconds waiting" in str(lost)
    assert lost_process(RuntimeError("Connection reset by peer")) is None  # not connected: it is another connection's


def test_on_gpus_batch_norm_is_synchronized_by_torch_and_restored() -> None:
    task, sync = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), SyncBatchNorm()
    task.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))  # type: ignore[assignment]
    assert isinstance(sync.apply(task)[1], nn.SyncBatchNorm)  # type: ignore[index]
    assert not isinstance(sync.revert(task)[1], nn.SyncBatchNorm)  # type: ignore[index]
