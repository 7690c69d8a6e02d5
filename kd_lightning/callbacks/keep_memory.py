"""Main memory while a CPU trains or tests."""

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.machine.host_memory import keep_freed_memory, return_freed_memory


class KeepMemory(Callback):
    """Keep the memory of a batch for the next one on a CPU: this halves the time in which it tests DeepNN."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep freed memory."""
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Return freed memory to the system."""
        return_freed_memory()

    on_test_start = on_train_start
    on_test_end = on_train_end
