"""The work behind ``napari-tinysam quantize``."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.cli.training import explained
from napari_tinysam.errors import TinySAMError, UsageError
from napari_tinysam.files import writing
from napari_tinysam.files.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinysam_training.quantize.run import Quantized
    from tinysam_training.quantize.search import ScaleSearch

#: So many of the most expensive layers are named.
_SHOWN = 8


@dataclass(frozen=True)
class QuantizeRequest:
    """What the command line says.

    Parameters
    ----------
    model : str
        A registry name or a file.
    data : list of Path
        Folders of images.
    output : Path
        The model to write; ``.safetensors`` is added if it is not there.
    images : int
        So many are used.
    seed : int
        Of all random choices.
    layers : Path, optional
        A table of all layers to write, CSV.
    """

    model: str
    data: list[Path]
    output: Path
    images: int = 8
    seed: int = 0
    layers: Path | None = None

    def checked_output(self) -> Path:
        """Check what can be checked before the slow part, and name the file.

        Raises
        ------
        UsageError, TinySAMError
            If a value makes no sense, or the output cannot be written.
        """
        if self.images < 1:
            raise UsageError("--images is 1 or more.")
        if self.seed < 0:
            raise UsageError("--seed is 0 or more.")
        output = self.output
        if output.suffix != ".safetensors":
            output = output.with_name(output.name + ".safetensors")
        writing.check_output(output, (".safetensors",))
        if self.layers is not None:
            writing.check_output(self.layers, (".csv",))
        return output


def quantize(
    request: QuantizeRequest,
    note: Callable[[str], None],
    settings: ScaleSearch | None = None,
) -> str:
    """Quantize a model.

    Parameters
    ----------
    request : QuantizeRequest
    note : callable
        Called with sentences for the user.
    settings : ScaleSearch, optional
        Of the search, if not the usual.

    Returns
    -------
    str
        Where the model is, and what it costs.

    Raises
    ------
    TinySAMError
        If data or model cannot be used, or memory or disk space ends.
    """
    output = request.checked_output()
    from napari_tinysam import checkpoints
    from tinysam_training.data.fingerprints import combined
    from tinysam_training.quantize.calibration_images import calibration_images
    from tinysam_training.quantize.run import quantize as run

    with explained():
        entries = calibration_images(request.data, request.images)
        loaded = checkpoints.load(request.model)
        if loaded.model.quantization is not None:
            raise TinySAMError(f"{loaded.name} is quantized already.")
        note(
            f"Calibrating {loaded.name} with {len(entries)} images: "
            + ", ".join(entry.name for entry in entries)
        )
        with _CalibrationBar() as bar:
            made = run(
                loaded.model, entries, settings, seed=request.seed, report=bar.report
            )
        notes = {
            **loaded.notes,
            "made_by": "napari-tinysam quantize",
            "quantized_from": f"{Path(loaded.name).stem} {loaded.fingerprint}",
            "calibration_data": combined(*(entry.fingerprint for entry in entries)),
        }
        checkpoints.save(made.model, output, notes)
        if request.layers is not None:
            _write_layers(made, request.layers)
    size = output.stat().st_size / sum(
        tensor.numel() * 4 for tensor in loaded.model.state_dict().values()
    )
    return _summary(output, size, made)


def _summary(output: Path, share: float, made: Quantized) -> str:
    layers = made.model.quantization or {}
    integers = sum(layer.input is not None for layer in layers.values())
    lines = [
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {share:.0%} of the model in 32 bits; "
        f"{made.seconds / 60:.1f} minutes with {made.images} images",
        f"{integers} of {len(layers)} layers are computed with integers; difference of the answers "
        f"on these images (KL): {made.loss:.2g}",
        "",
        "The most expensive layers (expected KL with the scales of min and max, with those found):",
    ]
    for each in made.sensitivities[:_SHOWN]:
        how = layers[each.name].input
        stays = ", computed with floats" if how is None else ""
        lines.append(f"  {each.name}: {each.before:.1e} → {each.after:.1e}{stays}")
    lines += [
        "",
        f"Use it: napari-tinysam segment IMAGE --model {output} …, or choose the file in the "
        "dock's settings.",
    ]
    return "\n".join(lines)


def _write_layers(made: Quantized, path: Path) -> None:
    """Write what each layer costs and how it is computed, the most expensive first."""
    layers = made.model.quantization or {}
    with (
        replacing(path) as file,
        io.TextIOWrapper(file, "utf-8", newline="") as text,
    ):
        rows = csv.writer(text)
        rows.writerow(
            ["layer", "kind", "expected_kl_min_max", "expected_kl", "computed_with"]
        )
        for each in made.sensitivities:
            how = "integers" if layers[each.name].input is not None else "floats"
            costs = (f"{each.before:.3g}", f"{each.after:.3g}")
            rows.writerow([each.name, each.kind, *costs, how])


class _CalibrationBar:
    """A progress bar on stderr, where somebody watches."""

    def __enter__(self) -> _CalibrationBar:
        self._bar: Any = None
        self._what = ""
        return self

    def __exit__(self, *reason: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def report(self, what: str, done: int, total: int) -> None:
        """Show how far a part is."""
        from tqdm import tqdm

        if what != self._what:
            self.__exit__()
            self._what = what
            self._bar = tqdm(
                total=total, desc=what, file=sys.stderr, disable=None, leave=False
            )
        self._bar.update(done - self._bar.n)
