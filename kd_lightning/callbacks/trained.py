"""How long a network was trained, and on how much of its data."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.loader import BatchLoader


def training_record(trainer: Trainer) -> dict[str, Any]:
    """Return the fields ``epochs`` and ``limits`` of ``ModelInfo``."""
    return {"epochs": epochs_trained(trainer), "limits": limits(trainer)}


def epochs_trained(trainer: Trainer) -> float:
    """Return the number of passes over the training images, a fraction where an option excluded some of them."""
    loader = trainer.train_dataloader
    batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return round(batches / len(loader), 4) if isinstance(loader, BatchLoader) else float(trainer.current_epoch)


def limits(trainer: Trainer) -> str:
    """Return the options of the trainer that excluded some images or epochs, such as ``limit_train_batches 2``."""
    loader, settings = trainer.train_dataloader, dict[str, Any]()
    if isinstance(loader, BatchLoader) and trainer.num_training_batches < len(loader):
        names = ("overfit_batches", "limit_train_batches")
        settings = {name: getattr(trainer, name) for name in names}
    if trainer.max_epochs == -1 or trainer.current_epoch < (trainer.max_epochs or 0):
        out_of_time = any(timer.time_remaining() == 0 for timer in callbacks_of(trainer, Timer))
        out_of_steps = 0 < trainer.max_steps <= trainer.global_step
        settings |= {"max_steps": trainer.max_steps if out_of_steps else -1, "max_time": out_of_time or None}
    return configured_limits(settings)


def configured_limits(settings: Mapping[str, Any]) -> str:
    """Return the limits in a config's trainer, whether they will exclude anything or not.

    Args:
        settings: Options of the trainer, by name.
    """
    found = [f"max_steps {settings['max_steps']}"] if settings.get("max_steps", -1) != -1 else []
    found += ["max_time"] if settings.get("max_time") is not None else []
    share = settings.get("limit_train_batches")
    if settings.get("overfit_batches"):  # it sets the other one
        found.append(f"overfit_batches {settings['overfit_batches']}")
    elif share is not None and not (isinstance(share, float) and share == 1.0):
        found.append(f"limit_train_batches {share}")
    return ", ".join(found)


def is_untrained(trainer: Trainer) -> bool:
    """Return whether a network has had no optimizer step, counting those before a checkpoint that it resumes from."""
    return trainer.global_step == 0


def images_used(trainer: Trainer) -> dict[str, int]:
    """Return the images per epoch of a fit that has just ended: trained on (``train``) and validated on (``val``)."""
    train = _images(trainer.train_dataloader, trainer.num_training_batches)
    return {"train": train, "val": images_validated(trainer)}


def images_validated(trainer: Trainer) -> int:
    """Return the number of images that a fit or a validation that has just ended validates on."""
    return _images(trainer.val_dataloaders, sum(trainer.num_val_batches))


def images_tested(trainer: Trainer) -> int:
    """Return the number of images that a test that has just ended has measured."""
    return _images(trainer.test_dataloaders, sum(trainer.num_test_batches))


def is_tested_whole(trainer: Trainer) -> bool:
    """Return whether the accuracy was measured on all test images."""
    loader = trainer.test_dataloaders
    return isinstance(loader, BatchLoader) and sum(trainer.num_test_batches) == len(loader)


def _images(loader: object, batches: float) -> int:
    return loader.images_in(int(batches)) if isinstance(loader, BatchLoader) else 0
