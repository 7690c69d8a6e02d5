"""What a weight file of a test says of its network."""

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network


def info_of(network: Network) -> ModelInfo:
    names = tuple(f"kind {i}" for i in range(network.num_classes))
    return ModelInfo(network.class_path, network.arguments, names, (0.1,) * 3, (0.2,) * 3, network.image_size, "x", 0.5)
