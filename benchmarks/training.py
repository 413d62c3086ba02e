"""Speed of training, compared with the machine's best: ``python -m benchmarks.training``.

Rows are parts of the pipeline for the architecture of the bundled model and the previous one, with
the four windows of 256² of a step in versions 0.1 to 0.4: batches alone, a step that teaches
encoder and object head, a step with prompts. Steps are those of the training loop (forward,
backward, optimizer, average) on finished batches. Weights are random, images synthetic. The
machine's best is a large matrix product in torch, in the precision of the steps.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from benchmarks.limits import COLUMNS, DEPTH, ROWS
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.model import Architecture
from tinysam_training.data.sampling import BatchRequest, Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.learning.objective import Objective
from tinysam_training.recipe import ModelSettings, Recipe, Stage
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.loop import Training
from tinysam_training.run.starting import Hardware, launched, new_model
from tinysam_training.synthetic import SYNTHETIC_KINDS, synthetic_image

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tinysam_training.data.batches import TrainingBatch
    from tinysam_training.labelled_image import LabelledImage

ARCHITECTURES = ("efficientnet_lite0", "tiny_vit")

#: In windows with prompts: objects of each, and rounds of corrections at most.
OBJECTS, ROUNDS = 4, 2


@dataclass(frozen=True)
class Row:
    """Seconds and operations of some windows."""

    work: str
    windows: int
    seconds: float
    operations: float = 0.0

    def cells(self, best: float) -> list[str]:
        """Return the cells of the table's row, for a machine's operations per second."""
        found = [
            self.work,
            f"{1000 * self.seconds:,.1f}",
            f"{self.windows / self.seconds:,.1f}",
        ]
        if not self.operations:
            return [*found, "", ""]
        share = self.operations / self.seconds / best
        return [*found, f"{self.operations / 1e9:,.1f}", f"{share:.0%}"]


def durations(run: Callable[[], Any], rounds: int, device: torch.device) -> list[float]:
    """Seconds of some rounds, after one for warming up. Waits for the device."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return taken[1:]


def seconds(run: Callable[[], Any], rounds: int, device: torch.device) -> float:
    """Median of `durations`."""
    return statistics.median(durations(run, rounds, device))


def best_rate(device: torch.device, dtype: torch.dtype, rounds: int = 15) -> float:
    """Operations a second of a large matrix product; a multiply-add counts as two.

    The best of some rounds, so that other users of the machine do not lower it.
    """
    larger = 4 if device.type == "cuda" else 1
    rows, depth, columns = (larger * side for side in (ROWS, DEPTH, COLUMNS))
    one = torch.randn(rows, depth, device=device, dtype=dtype)
    other = torch.randn(depth, columns, device=device, dtype=dtype)
    with torch.inference_mode():
        taken = min(durations(lambda: one @ other, rounds, device))
    return 2 * rows * depth * columns / taken


def backward_operations(
    gradient: Any, image: Any, weight: Any, *others: Any, **known: Any
) -> int:
    """Count a convolution's backward pass: as many operations as forward for each gradient.

    torch ignores the groups in the gradient of the weights.
    """
    transposed, wanted = others[4], others[7]
    return sum(wanted[:2]) * conv_flop_count(image, weight, gradient, transposed)


def recipe_of(architecture: Architecture, side: int, windows: int) -> Recipe:
    """Make a recipe with a stage of the object head alone, and one with prompts."""
    shown = ((side, windows, 1.0),)
    return Recipe(
        name="benchmark",
        steps=1_000_000,
        model=ModelSettings(architecture=architecture, dense_prompts=True),
        stages=(
            Stage(windows=shown, objects=0, zoom=(0.5, 1.2)),
            Stage(windows=shown, objects=OBJECTS, rounds=ROUNDS, zoom=(0.5, 1.2)),
        ),
    )


def measured(
    architecture: Architecture,
    images: list[LabelledImage],
    fabric: Fabric,
    *,
    side: int,
    windows: int,
    rounds: int,
) -> list[Row]:
    """Time batches, and steps of both stages."""
    recipe, device = recipe_of(architecture, side, windows), fabric.device
    torch.manual_seed(0)
    model = new_model(architecture)
    model.dense_prompts = True
    batches = WindowBatches(
        Sources.even(images), recipe, device=device, map_stride=model.map_stride
    )
    numbers = itertools.count()
    rows = [
        Row(
            f"{architecture}: batches with {OBJECTS} objects",
            windows,
            seconds(lambda: batches[BatchRequest(next(numbers), 1)], rounds, device),
        )
    ]
    with tempfile.TemporaryDirectory() as folder:  # nothing is written by a step
        whole = RunFolder(Path(folder), recipe)
        run = Training(Objective(model, recipe), batches, recipe, whole, fabric)
        for number, work in enumerate(("object head", f"{OBJECTS} prompts a window")):
            # The same batch each time: counting and timing see the same work.
            ready: Iterator[TrainingBatch] = itertools.repeat(
                batches[BatchRequest(0, number)]
            )
            run.recipe = replace(recipe, stages=(recipe.stages[number],))
            with FlopCounterMode(
                display=False,
                custom_mapping={
                    torch.ops.aten.convolution_backward: backward_operations
                },
            ) as counter:
                run._step(ready)
            rows.append(
                Row(
                    f"{architecture}: step, {work}",
                    windows,
                    seconds(lambda: run._step(ready), rounds, device),  # noqa: B023
                    float(counter.get_total_flops()),
                )
            )
    return rows


def table(rows: list[Row], best: float) -> str:
    """Make a Markdown table."""
    header = ("work", "ms", "windows / s", "GFLOP", "of the machine's best")
    return markdown_table(header, [row.cells(best) for row in rows])


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--windows", type=int, default=4, help="in a batch")
    parser.add_argument("--side", type=int, default=256, help="of a window, pixels")
    parser.add_argument("--rounds", type=int, default=10, help="timed, after one")
    parser.add_argument(
        "--architectures",
        nargs="+",
        default=ARCHITECTURES,
        choices=get_args(Architecture),
    )
    given = parser.parse_args(arguments)
    fabric = launched(Hardware(given.device))
    mixed = str(fabric.strategy.precision.precision) == "bf16-mixed"
    rng = np.random.default_rng(0)
    images = [synthetic_image(rng, kind) for kind in SYNTHETIC_KINDS[:4]]
    rows: list[Row] = []
    for architecture in given.architectures:
        sys.stderr.write(f"{architecture}…\n")
        rows += measured(
            architecture,
            images,
            fabric,
            side=given.side,
            windows=given.windows,
            rounds=given.rounds,
        )
    dtype = torch.bfloat16 if mixed else torch.float32
    best = best_rate(fabric.device, dtype)
    device = fabric.device.type
    if device == "cuda":
        device = torch.cuda.get_device_name(fabric.device)
    sys.stdout.write(
        f"{given.windows} windows of {given.side}², {'bfloat16' if mixed else 'float32'} on "
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; the machine's "
        f"best is {best / 1e9:,.0f} GFLOP/s.\n\n{table(rows, best)}\n"
    )


if __name__ == "__main__":
    main()
