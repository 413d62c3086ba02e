"""The operations of a model that are rounded, and what their inputs come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch.overrides import TorchFunctionMode

from napari_tinysam.model.integers import QUANTIZABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

#: The function that produced an operation's input.
Origin = Literal["softmax", "gelu", "relu", "other"]

_ORIGINS: dict[str, Origin] = {
    "softmax": "softmax",
    "gelu": "gelu",
    "relu": "relu",
    "hardtanh": "relu",  # torch's name of the function that ReLU6 calls
}

#: The classifier in official files is never computed.
_NEVER_COMPUTED = "image_encoder.head"


def operations(
    model: nn.Module, kinds: tuple[type[nn.Module], ...] = QUANTIZABLE
) -> Iterator[tuple[str, nn.Module]]:
    """All operations that can be rounded, modules of such kinds, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, kinds) and name != _NEVER_COMPUTED:
            yield name, module


class Origins(TorchFunctionMode):
    """Records which function produced the first operand of each operation, while a model runs.

    Parameters
    ----------
    watched : iterable of (str, torch.nn.Module)
        Of `operations`.

    Attributes
    ----------
    found : dict of str to {"softmax", "gelu", "relu", "other"}
    """

    def __init__(self, watched: Iterable[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.found: dict[str, Origin] = {}
        # Kept alive, so that no other tensor gets their memory.
        self._outputs: dict[int, tuple[Origin, Tensor]] = {}
        self._hooks = [
            module.register_forward_pre_hook(self._noting(name))
            for name, module in watched
        ]

    def _noting(self, name: str) -> Any:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            origin = self._outputs.get(given[0].data_ptr(), ("other", None))[0]
            self.found[name] = origin

        return note

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        origin = _ORIGINS.get(getattr(func, "__name__", ""))
        if origin is not None:
            self._outputs[out.data_ptr()] = (origin, out)
        return out

    def __exit__(self, *reason: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._outputs.clear()
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
