"""The classifiers of timm, by name."""

from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.networks.blocks import require_option
from kd_lightning.networks.libraries import WrappedNetwork


class TimmNetwork(WrappedNetwork):
    """A classifier of timm, such as ``mobilenetv4_conv_small``, untrained or pretrained; needs ``pip install timm``.

    Its layers have timm's names (``layer1``, ``blocks.3``). The distillation token of those that have one learns from a
    teacher's logits, as that of ``ViT`` does.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        name: The name in timm, as in ``timm.list_models()``; after a dot the name of weights.
        pretrained: Whether to begin with timm's weights, which are downloaded once. The last layer begins untrained
            where the number of classes differs. The weights were trained on larger images, with a normalization that
            depends on the model.
        resize: Height and width in pixels to which the network resizes images, on the device, 0 for none. Of 32 pixels
            a transformer with patches of 16 sees four; pretrained ones want 224.

    Raises:
        UserError: timm is not installed or has no such classifier; the classifier does not take images of that size; it
            has no weights, or they cannot be downloaded; or ``resize`` is below the images' size.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        name: str = "mobilenetv4_conv_small",
        pretrained: bool = False,
        resize: int = 0,
    ) -> None:
        # a file of the trained network has all weights, so its arguments omit the pretrained ones
        super().__init__(num_classes, in_channels, image_size, name=name, resize=resize)
        fits = resize == 0 or resize >= image_size
        require_option(self, "resize", resize, fits, f"0, or the images' {image_size} pixels or more")
        self.resize = resize
        build = partial(_build, name, pretrained, num_classes, in_channels, resize or image_size)
        self.build_body(f"{name} of timm", build, pretrained)
        given: Any = self.body.pretrained_cfg if pretrained else {}
        if len(given.get("mean", ())) == in_channels:
            self.normalization = Normalization(tuple(given["mean"]), tuple(given["std"]))
        if hasattr(self.body, "distilled_training"):  # DeiT's distillation token
            self.distillation_head = "head_dist"

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        if self.resize:  # a CPU cannot interpolate in half precision
            large = functional.interpolate(images.float(), size=(self.resize, self.resize), mode="bilinear")
            images = large.to(images.dtype)
        if self.distillation_head is not None:
            self.body.distilled_training = self.separate_heads  # type: ignore[assignment]
        output = self.body(images)
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


def _build(name: str, pretrained: bool, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError("TimmNetwork needs the package timm; install it with `pip install timm`.") from error
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if _known(name, timm).fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(name, pretrained=pretrained, **options)


def _known(name: str, timm: ModuleType) -> Any:
    """Return timm's configuration of a network; names of hub repositories and of folders are refused."""
    with suppress(RuntimeError):  # there is no such tag after the dot
        if timm.is_model(name) and (known := timm.get_pretrained_cfg(name)) is not None:
            return known
    names = timm.list_models()
    near = get_close_matches(name, [*names, *timm.list_models(pretrained=True)], n=8) or names[:8]
    raise UserError(f"timm has no classifier '{name}'; choose one, such as {', '.join(near)}.")
