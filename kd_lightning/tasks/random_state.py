"""The random state of a fit, so that a resumed run draws the same dropout as an undisturbed one."""

from typing import Any

import torch


class RandomState:
    """Torch's random numbers on the host and on a GPU, kept in checkpoints."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def save(self, checkpoint: dict[str, Any], device: torch.device) -> None:
        """Keep the state of now in a checkpoint."""
        checkpoint["rng_state"] = torch.get_rng_state()
        if device.type == "cuda":
            checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state(device)

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Take note of a checkpoint's state."""
        self._kept = {name: checkpoint[name] for name in ("rng_state", "cuda_rng_state") if name in checkpoint}

    def start(self, device: torch.device) -> None:
        """Begin from the seed, whatever was built before, or go on with the state of a checkpoint."""
        torch.manual_seed(torch.initial_seed())
        if "rng_state" in self._kept:
            torch.set_rng_state(self._kept["rng_state"].cpu())
        if "cuda_rng_state" in self._kept and device.type == "cuda":
            torch.cuda.set_rng_state(self._kept["cuda_rng_state"].cpu(), device)
        self._kept = {}
