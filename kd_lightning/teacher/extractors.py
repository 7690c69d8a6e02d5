"""The outputs of one or several teachers, and which of them a loss learns from."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from kd_lightning.networks.layers import LOGITS, FeatureExtractor, Outputs, Shapes

AVERAGE = ""
"""The name of the only teacher, or of the average of several."""

Average = Callable[[Sequence[Tensor]], Tensor]
"""Averages the logits, (B, num_classes) each, of several teachers."""


class Extractors:
    """Run the networks of one or several teachers on the same images.

    Args:
        networks: What runs each teacher, by its name; the only one's is ``AVERAGE``.
        by_loss: The name of the teacher that a loss learns from, by the loss's name; the average for all others.
        average: Averages the logits of several teachers; ``None`` for one.
    """

    def __init__(
        self,
        networks: Mapping[str, FeatureExtractor],
        by_loss: Mapping[str, str] | None = None,
        average: Average | None = None,
    ) -> None:
        self.networks = dict(networks)
        self.by_loss = dict(by_loss or {})
        self.average = average

    def teacher_of(self, loss: str) -> str:
        """Return the name of the teacher that a loss learns from."""
        return self.by_loss.get(loss, AVERAGE)

    def shapes_of(self, loss: str) -> Shapes:
        """Return the shapes of what a loss sees of its teacher."""
        if (name := self.teacher_of(loss)) in self.networks:
            return self.networks[name].shapes
        return {LOGITS: next(iter(self.networks.values())).shapes[LOGITS]}

    def __call__(self, images: Tensor) -> dict[str, Outputs]:
        """Return the outputs of each teacher for normalized images (B, C, H, W), and their average."""
        found = {name: network(images) for name, network in self.networks.items()}
        if self.average is not None:
            found[AVERAGE] = Outputs(self.average([outputs.logits for outputs in found.values()]), {})
        return found
