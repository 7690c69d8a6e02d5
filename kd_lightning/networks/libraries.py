"""Shared code of the networks that are defined elsewhere: in a library, or in the user's own modules."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.trial import evaluate, trial_images
from kd_lightning.wording import shortened


class WrappedNetwork(Network):
    """A network that runs another module, ``body``, whose layers keep their names."""

    body: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        return self.body(images)  # type: ignore[no-any-return]

    def layer_root(self) -> nn.Module:
        """Return the wrapped module, whose layers have its own names."""
        return self.body

    def build_body(self, title: str, build: Callable[[], nn.Module], pretrained: bool) -> None:
        """Build the module by a library, and try it on a blank image: not every size is taken.

        Args:
            title: The network's name in messages.
            build: Builds it.
            pretrained: Whether it begins with the library's weights.

        Raises:
            UserError: It cannot be built, its weights cannot be loaded, or it does not take the images' size.
        """
        size = f"{title} does not take images of {self.image_size} pixels", "set --data.image_size"
        weights = f"{title} cannot be loaded with its weights", "begin without weights"
        with _one_sentence(*(weights if pretrained else size)):
            self.body = build()
        self.came_with_weights = pretrained
        with _one_sentence(*size):
            evaluate(self, trial_images(self, 1, self.image_shape))


@contextmanager
def _one_sentence(problem: str, remedy: str) -> Iterator[None]:
    """Make any error a sentence: the constructors of a thousand networks and the clients of hubs raise anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{problem} ({reason(error)}); {remedy}, or choose another network.") from error


def reason(error: Exception) -> str:
    """Return the message of a library's error, as a clause."""
    return shortened(" ".join(str(error).split()).rstrip("."), 300) or type(error).__name__
