"""``napari-tinysam quantize``: a smaller and faster model with 8-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.console import PartsBar, say
from napari_tinysam.cli.options import (
    ModelArgument,
    SeedOption,
    argument,
    option,
    output_option,
)
from napari_tinysam.errors import TinySAMError, explained

if TYPE_CHECKING:
    from tinysam_training.quantize.run import Quantized

#: How many of the most expensive layers are named.
_SHOWN = 8


def quantize(
    model: ModelArgument,
    data: Annotated[
        list[Path],
        argument(
            "DATA...",
            "Folders of images of the kinds that the model is for, with labels or without.",
        ),
    ],
    output: Annotated[Path, output_option("FILE", "The model to write.")],
    images: Annotated[int, option("N", "How many images to use.", min=1)] = 8,
    seed: SeedOption = 0,
    layers: Annotated[
        Path | None,
        option(
            "FILE.csv",
            "Also write a table of all layers: what each costs, and how it is computed.",
        ),
    ] = None,
) -> None:
    """Make MODEL smaller and faster with 8-bit integers.

    A few images of DATA calibrate it. The file has a quarter of the size, and is used like any
    other model. Whether its integers are faster on a computer without a GPU is measured there at
    first use.
    """
    from napari_tinysam import checkpoints
    from napari_tinysam.files.writing import check_output
    from tinysam_training.data.fingerprints import combined
    from tinysam_training.quantize import run
    from tinysam_training.quantize.calibration_images import calibration_images

    if output.suffix != ".safetensors":
        output = output.with_name(output.name + ".safetensors")
    check_output(output, (".safetensors",))
    if layers is not None:
        check_output(layers, (".csv",))
    with explained(defects=False):
        entries = calibration_images(data, images)
        loaded = checkpoints.load(model)
        if loaded.model.quantization is not None:
            raise TinySAMError(f"{loaded.name} is quantized already.")
        say(
            f"Calibrating {loaded.name} with {len(entries)} images: "
            + ", ".join(entry.name for entry in entries)
        )
        with PartsBar() as bar:
            made = run.quantize(loaded.model, entries, seed=seed, report=bar.report)
        notes = {
            **loaded.notes,
            "made_by": "napari-tinysam quantize",
            "quantized_from": f"{Path(loaded.name).stem} {loaded.fingerprint}",
            "calibration_data": combined(*(entry.fingerprint for entry in entries)),
        }
        checkpoints.save(made.model, output, notes)
        if layers is not None:
            _write_layers(made, layers)
    floats = sum(tensor.numel() * 4 for tensor in loaded.model.state_dict().values())
    typer.echo(_summary(output, floats, made))


def _summary(output: Path, floats: int, made: Quantized) -> str:
    """Describe the file and the most expensive layers; `floats` is bytes in 32 bits."""
    layers = made.model.quantization or {}
    integers = sum(layer.input is not None for layer in layers.values())
    size = output.stat().st_size
    lines = [
        f"{output}: {size / 1e6:.1f} MB, {size / floats:.0%} of the model in 32 bits; "
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
    import csv
    import io

    from napari_tinysam.files.atomic import replacing

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
