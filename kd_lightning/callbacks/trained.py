"""How long a network was trained, and on how much of its data."""

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
    found, loader = list[str](), trainer.train_dataloader
    if trainer.max_epochs == -1 or trainer.current_epoch < (trainer.max_epochs or 0):
        found += [f"max_steps {trainer.max_steps}"] if 0 < trainer.max_steps <= trainer.global_step else []
        found += ["max_time"] if any(timer.time_remaining() == 0 for timer in callbacks_of(trainer, Timer)) else []
    if isinstance(loader, BatchLoader) and trainer.num_training_batches < len(loader):
        options: Any = trainer
        name = "overfit_batches" if options.overfit_batches else "limit_train_batches"  # the one sets the other
        found.append(f"{name} {getattr(options, name)}")
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
