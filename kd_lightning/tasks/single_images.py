"""Batches of one image, on which batch normalization may not be able to train."""

import torch
from lightning.pytorch import Trainer

from kd_lightning.data.loader import BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.networks.trial import in_mode, trial_images
from kd_lightning.wording import counted


def check_last_batch(network: Network, trainer: Trainer) -> None:
    """Refuse an epoch whose last batch has one image where the network needs more to train on.

    Raises:
        UserError: It does.
    """
    loader = trainer.train_dataloader
    if not isinstance(loader, BatchLoader) or trainer.num_training_batches < len(loader):
        return
    images = len(loader.sampler)
    if (images % loader.batch_size or loader.batch_size) != 1 or loader.drop_last or trains_on_one(network):
        return
    raise UserError(
        f"{counted(images, 'training image')} in batches of {loader.batch_size} leave a last batch of one, on which "
        f"{type(network).__name__}'s batch normalization cannot train; set --data.drop_last true, or another "
        "--data.batch_size."
    )


@torch.no_grad()
def trains_on_one(network: Network) -> bool:
    """Return whether a network can train on a batch of one image; it stays unchanged."""
    try:
        with in_mode(network, training=True):
            network(trial_images(network, 1, network.image_shape))
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    return True
