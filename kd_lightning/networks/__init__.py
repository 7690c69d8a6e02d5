"""Networks in pure torch: images in, logits out, layers by name."""

from kd_lightning.networks.base import Network
from kd_lightning.networks.mobilenet import MobileNetV2
from kd_lightning.networks.module import ModuleNetwork
from kd_lightning.networks.resnet import ResNet
from kd_lightning.networks.resnet9 import ResNet9
from kd_lightning.networks.resnet50 import ResNet50
from kd_lightning.networks.shufflenet import ShuffleNetV1, ShuffleNetV2
from kd_lightning.networks.simkd import SimKDStudent
from kd_lightning.networks.timm import TimmNetwork
from kd_lightning.networks.torchvision import TorchvisionNetwork
from kd_lightning.networks.tutorial import DeepNN, LightNN
from kd_lightning.networks.vgg import VGG
from kd_lightning.networks.vit import ViT
from kd_lightning.networks.wide_resnet import WideResNet

__all__ = [
    "VGG",
    "DeepNN",
    "LightNN",
    "MobileNetV2",
    "ModuleNetwork",
    "Network",
    "ResNet",
    "ResNet9",
    "ResNet50",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "SimKDStudent",
    "TimmNetwork",
    "TorchvisionNetwork",
    "ViT",
    "WideResNet",
]
