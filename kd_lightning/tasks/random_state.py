"""The random state of a fit, so that a resumed run draws the same dropout as an undisturbed one."""

from typing import Any

import torch


class RandomState:
    """The state of torch's random number generators on the host and on a GPU, saved in checkpoints."""

    def __init__(self) -> None:
        self._saved: dict[str, torch.Tensor] = {}

    def save(self, checkpoint: dict[str, Any], device: torch.device) -> None:
        """Save the current state in a checkpoint."""
        checkpoint["rng_state"] = torch.get_rng_state()
        if device.type == "cuda":
            checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state(device)

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Read a checkpoint's state, for ``start``."""
        self._saved = {name: checkpoint[name] for name in ("rng_state", "cuda_rng_state") if name in checkpoint}

    def start(self, device: torch.device) -> None:
        """Reset to the random seed, whatever was built before, or continue with the state of a checkpoint."""
        torch.manual_seed(torch.initial_seed())
        if "rng_state" in self._saved:
            torch.set_rng_state(self._saved["rng_state"].cpu())
        if "cuda_rng_state" in self._saved and device.type == "cuda":
            torch.cuda.set_rng_state(self._saved["cuda_rng_state"].cpu(), device)
        self._saved = {}
