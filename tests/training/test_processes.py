"""The message when processes that train together lose one another."""

import pytest
import torch

from kd_lightning.training.processes import lost_process


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch trains on one process only")
def test_a_process_that_never_started_is_reported_as_one_that_ended_and_other_errors_are_not() -> None:
    lost = lost_process(torch.distributed.DistStoreError("Timed out after 11 seconds waiting for clients. 1/2 joined."))
    assert "another process of this run has ended or does not answer (Timed out after 11 seconds waiting" in str(lost)
    assert lost_process(RuntimeError("Connection reset by peer")) is None  # not connected: it is another connection's
