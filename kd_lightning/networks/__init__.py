"""Networks in pure torch: images in, logits and a feature map out."""

from kd_lightning.networks.base import Network
from kd_lightning.networks.seed import DeepNN, LightNN

__all__ = ["DeepNN", "LightNN", "Network"]
