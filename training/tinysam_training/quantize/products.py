"""Every operation as matrix products of sampled rows, with gradients.

A linear layer multiplies rows of inputs by weights. A convolution multiplies rows of patches. A
transposed convolution with a kernel as wide as its stride multiplies rows of pixels by the weights
of each tap. So the search for scales handles one form only: (B, G, M, K) by (B or 1, G, K, N), with
G groups of a convolution. A few hundred rows of each call are enough.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model.encoders.efficientnet import PaddedConv
from napari_tinysam.model.integers import QUANTIZABLE
from tinysam_training.quantize.calibration_data import as_tensor, as_tensors
from tinysam_training.quantize.operations import operations
from tinysam_training.quantize.task_loss import drawn_nll, iou_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.quantize.calibration_data import Seen

#: Values of an operand, or of a result, that are kept for each operation.
_KEPT = 1_000_000

#: The most rows kept for an operation, and the fewest for one call.
_MOST_ROWS, _LEAST_ROWS = 2048, 8


@dataclass(frozen=True, eq=False)
class Product:
    """Sampled rows of an operation.

    Attributes
    ----------
    first : Tensor
        (B, G, M, K) float32, inputs.
    second : Tensor
        (B, G, K, N), weights, with B = 1.
    gradient : Tensor
        (B, G, M, N), gradient of the task loss for each output.
    """

    first: Tensor
    second: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation with its sampled products.

    Attributes
    ----------
    name : str
        Of the module.
    module : torch.nn.Module
    taps : int
        Neighbouring columns of the product that are one output channel: the taps of a transposed
        convolution's kernel.
    products : list of Product
    share : float
        Share of its outputs that the products hold.
    """

    name: str
    module: nn.Module
    taps: int
    products: list[Product]
    share: float = 1.0


def collect(
    model: SegmentAnything,
    seen: Sequence[Seen],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    watching: type[Watching] | None = None,
) -> list[Operation]:
    """Run a model once over its calibration images, forwards and backwards.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU; it is not changed.
    seen : sequence of Seen
        Of `calibration_data.see`.
    seed : int
        For sampling rows and for drawing answers (`task_loss`).
    progress : callable, optional
        Called with images done and their number.
    watching : type of Watching, optional
        One that knows more kinds of operations.

    Returns
    -------
    list of Operation
        Those that were computed, in the order of the model's modules.
    """
    watched = copy.deepcopy(model)
    for parameter in watched.parameters():
        parameter.requires_grad_(False)
    # Operations that depend on tokens alone need gradients as well.
    decoder: Any = watched.mask_decoder
    for tokens in (decoder.iou_token, decoder.mask_tokens):
        tokens.weight.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    calls = sum(1 + len(one.prompts) for one in seen)
    hooks = (watching or Watching)(watched, calls, generator)
    try:
        for number, one in enumerate(seen, start=1):
            _loss(watched, one, generator).backward()  # type: ignore[no-untyped-call]
            if progress is not None:
                progress(number, len(seen))
    finally:
        hooks.stop()
    return hooks.operations()


def _loss(model: SegmentAnything, seen: Seen, generator: torch.Generator) -> Tensor:
    frame = model.normalize_and_pad(as_tensor(seen.rgb))
    features = model.features(frame.requires_grad_(True))
    losses = []
    if model.object_head is not None:
        losses.append(drawn_nll(model.object_maps(features), generator))
    for prompts in seen.prompts:
        given = as_tensors(prompts)
        if "masks" in given:
            given["masks"].requires_grad_(True)
        logits, scores = model.decode(
            features.embedding, details=features.details, **given
        )
        losses.append(drawn_nll(logits, generator))
        losses.append(drawn_nll(iou_logits(scores), generator))
    if not losses:  # nothing was asked of this image, and there is no head
        losses.append(features.embedding.square().mean())
    return torch.stack(losses).sum()


class Watching:
    """Hooks that keep rows of every operation's operands and of its output's gradient."""

    #: Which modules are operations.
    kinds: tuple[type[nn.Module], ...] = QUANTIZABLE

    def __init__(
        self, model: SegmentAnything, calls: int, generator: torch.Generator
    ) -> None:
        self._named = dict(operations(model, self.kinds))
        self._generator = generator
        self._calls = calls
        self._kept: dict[str, list[Product]] = defaultdict(list)
        self._outputs: dict[str, int] = defaultdict(int)
        self._hooks = [
            module.register_forward_hook(self._watching(name))
            for name, module in self._named.items()
        ]

    def stop(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def operations(self) -> list[Operation]:
        """Return what was kept."""
        found = []
        for name, module in self._named.items():
            # Skip modules without effect, such as SAM's single mask.
            if any(bool(each.gradient.any()) for each in self._kept[name]):
                taps = 1
                if isinstance(module, nn.ConvTranspose2d):
                    taps = module.kernel_size[0] * module.kernel_size[1]
                kept = sum(each.gradient.numel() for each in self._kept[name])
                joined = self._joined(self._kept[name])
                share = kept / self._outputs[name]
                found.append(Operation(name, module, taps, joined, share))
        return found

    def _watching(self, name: str) -> Any:
        def watch(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            if not out.requires_grad:
                return
            with torch.no_grad():
                rows = self._sampled(module, given, out)
            first, second, of_gradient = rows
            self._outputs[name] += out.numel()

            def keep(gradient: Tensor) -> None:
                with torch.no_grad():
                    self._kept[name].append(
                        Product(first, second, of_gradient(gradient))
                    )

            out.register_hook(keep)  # type: ignore[no-untyped-call]

        return watch

    def _sampled(
        self, module: Any, given: tuple[Tensor, ...], out: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        (x,) = given
        weight = module.weight.detach()
        if isinstance(module, nn.Linear):
            flat = x.detach().reshape(-1, x.shape[-1])
            rows = self._places(len(flat), weight.shape)
            return (
                flat[rows][None, None],
                weight.T[None, None],
                lambda g: g.reshape(-1, g.shape[-1])[rows][None, None],
            )
        if isinstance(module, nn.ConvTranspose2d):
            if module.stride != module.kernel_size or module.groups != 1:
                raise NotImplementedError("only kernels as wide as their stride")
            taps = module.kernel_size
            batch, _, height, width = x.shape
            pixels = x.detach().permute(0, 2, 3, 1).flatten(0, 2)
            rows = self._places(len(pixels), weight.shape)

            def of_taps(gradient: Tensor) -> Tensor:
                # (B, C, 2 h, 2 w) → (B h w, C · 4)
                g = gradient.reshape(batch, -1, height, taps[0], width, taps[1])
                g = g.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2)
                return g[rows][None, None]

            return pixels[rows][None, None], weight.flatten(1)[None, None], of_taps
        return self._of_convolution(module, x.detach(), out)

    def _of_convolution(
        self, module: nn.Conv2d, x: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        groups, (high, wide) = module.groups, module.kernel_size
        assert not isinstance(module.padding, str)
        above, beside = module.padding
        if isinstance(module, PaddedConv):
            padded = module.padded(x)
        else:
            padded = F.pad(x, (beside, beside, above, above))
        channels = out.shape[1]
        rows = self._places(out.numel() // channels, module.weight.shape)
        batch, rest = (
            rows // (out.shape[2] * out.shape[3]),
            rows % (out.shape[2] * out.shape[3]),
        )
        y = rest // out.shape[3] * module.stride[0]
        xs = rest % out.shape[3] * module.stride[1]
        patches = torch.stack(
            [padded[batch, :, y + i, xs + j] for i in range(high) for j in range(wide)],
            dim=-1,
        )  # (M, C, taps)
        patches = patches.view(len(rows), groups, -1).transpose(0, 1)[None]
        weight = module.weight.detach().view(groups, channels // groups, -1)

        def of_places(gradient: Tensor) -> Tensor:
            g = gradient.permute(0, 2, 3, 1).flatten(0, 2)[rows]
            return g.view(len(rows), groups, -1).transpose(0, 1)[None]

        return patches, weight.transpose(1, 2)[None], of_places

    def _joined(self, products: list[Product]) -> list[Product]:
        """Join the rows of all calls; the weights are the same."""
        firsts = torch.cat([each.first for each in products], dim=2)
        gradients = torch.cat([each.gradient for each in products], dim=2)
        return [Product(firsts, products[0].second, gradients)]

    def _places(self, count: int, weight: Sequence[int]) -> Tensor:
        """Choose the rows to keep for an operation with such weights."""
        outputs = weight[0]
        inputs = 1
        for size in weight[1:]:
            inputs *= size
        most = min(_MOST_ROWS, _KEPT // max(inputs, outputs))
        return self._some(count, max(_LEAST_ROWS, most // self._calls))

    def _some(self, count: int, most: int) -> Tensor:
        if count <= most:
            return torch.arange(count)
        return torch.randperm(count, generator=self._generator)[:most]
