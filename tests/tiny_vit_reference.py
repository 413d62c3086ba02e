"""TinyViT-5M as an image encoder, stated plainly and anew from its papers.

TinyViT (Wu et al., ECCV 2022) with the changes of MobileSAM (Zhang et al., 2023): no reduction into
the last stage, SAM's neck for a head. Tensor names are those of the published checkpoints, so that
a state dict loads as it is. Nothing is taken from timm or from this project; slow and simple.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution without bias ("c") and BatchNorm ("bn")."""

    def __init__(
        self, inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        scale = bn.weight / torch.sqrt(bn.running_var + 1e-5)
        shift = bn.bias - bn.running_mean * scale
        return self.c(x) * scale[:, None, None] + shift[:, None, None]


class Stem(nn.Module):
    """Two 3×3 convolutions of stride 2, named seq.0 and seq.2 around a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, 32, 3, stride=2), nn.GELU(), ConvNorm(32, 64, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class InvertedResidual(nn.Module):
    """MBConv: 1×1 to four times the width, depthwise 3×3, 1×1 back, residual, GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 4 * width, 1)
        self.conv2 = ConvNorm(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = ConvNorm(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Merging(nn.Module):
    """1×1, depthwise 3×3 that may reduce, 1×1, with GELU between."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inner, outer, 1)
        self.conv2 = ConvNorm(outer, outer, 3, stride, groups=outer)
        self.conv3 = ConvNorm(outer, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Self-attention in one window with a learned bias for each head and (|dy|, |dx|)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        places = list(itertools.product(range(window), repeat=2))
        offsets: dict[tuple[int, int], int] = {}
        rows = [
            [
                offsets.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(offsets))
                for b in places
            ]
            for a in places
        ]
        self.index = torch.tensor(rows)
        self.attention_biases = nn.Parameter(torch.zeros(heads, len(offsets)))

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, width = x.shape
        each = width // self.heads
        # The width is ordered by head, and within a head by query, key, value.
        qkv = self.qkv(self.norm(x)).reshape(windows, tokens, self.heads, 3, each)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        weights = query @ key.transpose(-1, -2) / each**0.5
        weights = torch.softmax(weights + self.attention_biases[:, self.index], dim=-1)
        joined = (weights @ value).transpose(1, 2).reshape(windows, tokens, width)
        return self.proj(joined)


class Perceptron(nn.Module):
    """LayerNorm, four times the width, GELU, back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Window attention, depthwise 3×3 convolution, perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x = x + self._attend(x)
        x = self.local_conv(x)
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Each window by itself; windows over the edge see zeros before their LayerNorm."""
        side = self.window
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % side, 0, -height % side))
        corners = list(itertools.product(range(0, height, side), range(0, width, side)))
        tokens = torch.cat(
            [
                padded[..., y : y + side, x : x + side].flatten(2).transpose(1, 2)
                for y, x in corners
            ]
        )  # (windows · B, window², C)
        out = torch.empty_like(padded)
        attended = self.attn(tokens).transpose(1, 2).split(len(x))
        for (top, left), tile in zip(corners, attended, strict=True):
            square = tile.unflatten(-1, (side, side))
            out[..., top : top + side, left : left + side] = square
        return out[..., :height, :width]


class Stage(nn.Module):
    """Blocks, then the merging that leads to the next stage."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if downsample is not None:
            self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), ε = 1e-6."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = ((x - mean) ** 2).mean(1, keepdim=True)
        normal = (x - mean) / torch.sqrt(variance + 1e-6)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class TinyVitReference(nn.Module):
    """(B, 3, H, W) normalised images to (B, 256, H / 16, W / 16); evaluation only."""

    def __init__(self, img_size: int = 1024) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = Stem()
        widths, windows, heads = (64, 128, 160, 320), (7, 7, 14, 7), (2, 4, 5, 10)
        depths, strides = (2, 2, 6, 2), (2, 2, 1)
        stages = []
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = [
                Block(width, heads[i], windows[i]) if i else InvertedResidual(width)
                for _ in range(depth)
            ]
            last = i == len(widths) - 1
            merging = None if last else Merging(width, widths[i + 1], strides[i])
            stages.append(Stage(blocks, merging))
        self.layers = nn.ModuleList(stages)
        # The ImageNet classifier that the published files carry and nobody uses.
        self.norm_head = nn.LayerNorm(320)
        self.head = nn.Linear(320, 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            ChannelNorm(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            ChannelNorm(256),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)
