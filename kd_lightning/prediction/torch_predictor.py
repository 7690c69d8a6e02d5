"""Predict with a weights file, in torch."""

from pathlib import Path

import torch

from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.images import Pixels
from kd_lightning.inference.onnx_predictor import Floats, Predictor
from kd_lightning.networks.weights import load_model
from kd_lightning.wording import shown


class TorchPredictor(Predictor):
    """Opens weights and gives the probabilities of images, on the CPU.

    Args:
        path: What ``kd_lightning.networks.weights.load_model`` takes: ``.pth``, ``.safetensors``, ``.ckpt`` or a
            bare state dict.
        threads: CPU threads for torch, in the whole process; 0 leaves them as they are.
        network: Import path of the network's class, where it is not imported yet.

    Raises:
        UserError: The file is missing or damaged, or is for an unknown network.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, network: str | None = None) -> None:
        loaded, info = load_model(path, network)
        super().__init__(path, info)
        self._network = loaded.to_channels_last()
        self._normalization = Normalization(self.info.mean, self.info.std)
        if threads:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def probabilities(self, images: Pixels) -> Floats:
        """Return the probabilities (B, K) of images (B, S, S, C), uint8."""
        channels_last = torch.from_numpy(images).permute(0, 3, 1, 2)  # (B, S, S, C) -> (B, C, S, S)
        try:
            logits = self._network(self._normalization.apply(channels_last))
        except RuntimeError as error:  # mismatched sizes, or too little memory
            raise UserError(f"{self.path} fails at {len(images)} images ({shown(error)}); train it again.") from error
        if not logits.isfinite().all():
            raise UserError(f"{self.path} gives values that are not finite; train it again.")
        return logits.softmax(dim=1).numpy()  # type: ignore[no-any-return]
