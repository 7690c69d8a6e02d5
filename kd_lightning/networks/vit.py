"""ViT: a small vision transformer, with DeiT's distillation token if it is wanted."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import require_option

HEAD_WIDTH = 64
"""Channels of an attention head, as in ViT."""


class _Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape, (B, N, C)."""
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, HEAD_WIDTH))  # (B, N, 3C) -> (B, N, 3, heads, 64)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, 64) each
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Attention and a hidden layer of four times the width, each after a LayerNorm and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape, (B, N, C)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


class _Pool(nn.Module):
    """The class token, or the mean of all tokens of a network without one."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.class_token = class_token

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a vector of each image, (B, N, C) -> (B, C)."""
        return tokens[:, 0] if self.class_token else tokens.mean(1)


class ViT(Network):
    """A small vision transformer for small images: 2,693,578 parameters for CIFAR-10.

    Losses read its layers ``blocks.0``, ``blocks.1``, ... and ``norm`` as maps of ``width`` channels and of the image's
    size divided by ``patch``, without the tokens in front; ``pool`` gives the vector in front of the last layer.
    Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929. It needs more epochs than a CNN, and learns from one.

    With ``distillation_token`` (DeiT, Touvron et al. 2021, https://arxiv.org/abs/2012.12877) a second token has a last
    layer of its own, ``head_dist``, which learns from the teacher's logits, while ``head`` learns from the labels. The
    network's logits are the mean of both, in training those of ``head``. Without a loss on a teacher's logits both
    learn from the labels, as their mean.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, a multiple of ``patch``.
        patch: Height and width in pixels of the patch that becomes a token, 1 or more.
        depth: Number of blocks, 1 or more.
        width: Channels of a token, a multiple of 64, one attention head for each 64.
        class_token: Whether a token of its own is classified, or the mean of the others.
        distillation_token: Whether another token learns from the teacher; it needs ``class_token``.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        patch: int = 4,
        depth: int = 6,
        width: int = 192,
        class_token: bool = True,
        distillation_token: bool = False,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels,
            image_size,
            patch=patch,
            depth=depth,
            width=width,
            class_token=class_token,
            distillation_token=distillation_token,
        )
        self._check(patch, depth, width)
        self.num_prefix_tokens = int(class_token) + int(distillation_token)
        self.patch_embed = nn.Conv2d(in_channels, width, patch, patch)
        if self.num_prefix_tokens:
            self.prefix_tokens = nn.Parameter(torch.empty(1, self.num_prefix_tokens, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_prefix_tokens + (image_size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.pool = _Pool(class_token)
        self.head = nn.Linear(width, num_classes)
        if distillation_token:
            self.head_dist = nn.Linear(width, num_classes)
            self.distillation_head = "head_dist"
        self._initialize()

    def _check(self, patch: int, depth: int, width: int) -> None:
        fits = patch >= 1 and self.image_size % patch == 0
        require_option(self, "patch", patch, fits, f"a divisor of the images' {self.image_size} pixels")
        require_option(self, "depth", depth, depth >= 1, "1 or more")
        require_option(self, "width", width, width > 0 and width % HEAD_WIDTH == 0, f"a multiple of {HEAD_WIDTH}")
        if self.arguments["distillation_token"] and not self.arguments["class_token"]:
            raise UserError("--model.network.distillation_token is true, but class_token is false; ViT needs both.")

    def _initialize(self) -> None:
        """Draw weights and tokens as timm does: normal, of standard deviation 0.02; biases begin at 0."""
        for name, values in self.named_parameters():
            if values.ndim == 2 or name in ("prefix_tokens", "pos_embed"):
                nn.init.trunc_normal_(values, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(values)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        if self.num_prefix_tokens:
            tokens = torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = self.norm(self.blocks(tokens + self.pos_embed))
        logits: Tensor = self.head(self.pool(tokens))
        if self.distillation_head is None:
            return logits
        distilled = self.head_dist(tokens[:, 1])
        return logits if self.separate_heads and self.training else (logits + distilled) / 2
