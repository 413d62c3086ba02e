"""What quantization costs and saves: a model in floats, with integers, and simulated, side by side.

Run as ``python -m papers.compare_quantization MODEL QUANTIZED DATA… --calibration DATA… -o
OUT.json``. What is in OUT.json already is not measured again, so a run can be interrupted.

Ways: ``f32``, ``bf16`` and ``int8`` are what OpenVINO computes; ``W8A8`` and ``W6A6`` simulate the
paper's scheme (scales of a layer, two ranges after softmax and GELU, products of activations too)
in torch, and ``W8A8 min-max`` the same with scales of min and max instead of searched ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam import checkpoints
from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.atomic import replacing
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model
from tinysam_training.data.dataset import images_of_folders
from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate
from tinysam_training.quantize.calibration_images import calibration_images
from tinysam_training.quantize.quantizing import (
    Collected,
    collected,
    paper_scheme,
    roundings,
    searched,
)
from tinysam_training.quantize.search import ScaleSearch
from tinysam_training.quantize.simulation import simulated_predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry

REAL = ("f32", "bf16", "int8")

#: Bits, and rounds of the search, of what is simulated.
SIMULATED = {"W8A8": (8, 3), "W8A8 min-max": (8, 0), "W6A6": (6, 3)}

#: Everything at once by the object head alone: searches would take hours where bits are simulated.
FIGURES = ("box_iou", "click1_iou", "head_msa", "head_ap50")

#: Images that are encoded, and prompts that are decoded, for the times.
_TURNS, _PROMPTS = 9, 8


class QuantizationComparison:
    """Predictors of all ways, made when they are needed.

    Parameters
    ----------
    model, quantized : str
        Names or files.
    calibration : sequence of ImageEntry
        For what is simulated.
    """

    def __init__(
        self, model: str, quantized: str, calibration: Sequence[ImageEntry]
    ) -> None:
        self._model, self._quantized = model, quantized
        self._calibration = calibration
        self._collected: Collected | None = None

    def predictor(self, way: str) -> Predictor:
        """Return what computes in a way.

        Raises
        ------
        CheckpointError, DataError, ValueError
            If it cannot be had.
        """
        if way == "int8":
            return load_model(self._quantized, runtime="openvino", precision="int8")
        if way in REAL:
            return load_model(self._model, runtime="openvino", precision=way)  # type: ignore[arg-type]
        bits, rounds = SIMULATED[way]
        if self._collected is None:
            loaded = checkpoints.load(self._model)
            self._collected = collected(loaded.model, self._calibration, report=_report)
        scheme, settings = paper_scheme(bits), ScaleSearch(rounds=rounds)
        scales = searched(self._collected, scheme, settings, report=_report)
        return simulated_predictor(
            self._collected.model,
            roundings(self._collected, scheme, scales),
            name=way,
            notes=checkpoints.locate(self._model).notes,
        )

    def size(self, way: str) -> float:
        """Megabytes of the weights."""
        if way == "int8":
            return checkpoints.path_of(self._quantized).stat().st_size / 1e6
        state = checkpoints.load(self._model).model.state_dict().values()
        count = sum(tensor.numel() for tensor in state)
        bits = {"f32": 32, "bf16": 16}.get(way) or SIMULATED[way][0]
        return float(count * bits / 8e6)


def judged(predictor: Predictor, entries: Sequence[ImageEntry]) -> dict[str, float]:
    """Measure `FIGURES` of one way, means over images; eight objects of each are asked for."""
    settings = EvaluationSettings(objects=8, clicks=1, loose_margin=0, automatic=False)
    found = evaluate(predictor, entries, settings, _progress)
    means = {}
    for name in FIGURES:
        values = [result.figures.get(name) for result in found.results]
        known = [value for value in values if value is not None]
        means[name] = float(np.mean(known)) if known else float("nan")
    return means


def timed(predictors: Mapping[str, Predictor]) -> dict[str, dict[str, float]]:
    """Median seconds of encoding 1024² and of decoding and drawing a prompt; ways take turns."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1024, 1024, 3), np.uint8)
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for way, predictor in predictors.items():
        runtime = predictor._runtime
        features = runtime.encode(image)
        prompts: dict[str, Any] = {
            "points": rng.uniform(50, 970, (_PROMPTS, 1, 2)).astype(np.float32),
            "labels": np.ones((_PROMPTS, 1), np.int32),
            "boxes": None,
            "masks": None,
        }
        if runtime.dense_prompts:
            prompts["masks"] = rng.normal(0, 8, (_PROMPTS, 256, 256)).astype(np.float32)
        runs[way, "encode"] = partial(runtime.encode, image)
        runs[way, "prompt"] = partial(runtime.decode, features, **prompts)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(_TURNS):
        for key, run in runs.items():
            time.sleep(0.05)  # threads of the run before wait for more work, and turn
            begun = time.perf_counter()
            run()
            taken[key].append(time.perf_counter() - begun)
    found: dict[str, dict[str, float]] = {way: {} for way in predictors}
    for (way, what), seconds in taken.items():
        count = _PROMPTS if what == "prompt" else 1
        found[way][what] = statistics.median(seconds) / count
    return found


def table(ways: Mapping[str, Mapping[str, float]]) -> str:
    """Make a Markdown table."""
    header = (
        *("way", "MB", "encode, ms", "a prompt, ms"),
        *("box IoU", "IoU, click", "mSA, head", "AP50, head"),
    )
    rows = []
    for way, found in ways.items():
        cells = [way, f"{found['size']:.1f}"]
        for what in ("encode", "prompt"):
            cells.append(f"{1000 * found[what]:.1f}" if what in found else "simulated")
        cells += [f"{found[name]:.4f}" for name in FIGURES]
        rows.append(cells)
    return markdown_table(header, rows)


def _report(what: str, done: int, total: int) -> None:
    if done == total:
        sys.stderr.write(f"{what}: {total}\n")


def _progress(done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        sys.stderr.write(f"{done} of {total} images\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("quantized")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--calibration", type=Path, nargs="+", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", default=[*REAL, *SIMULATED])
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=1000, help="of each folder")
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    if arguments.output.exists():
        found = json.loads(arguments.output.read_text("utf-8"))

    def write() -> None:
        with replacing(arguments.output) as file:
            file.write(json.dumps(found, indent=1).encode())

    try:
        entries = images_of_folders(arguments.data, arguments.split, arguments.images)
        comparison = QuantizationComparison(
            arguments.model,
            arguments.quantized,
            calibration_images(arguments.calibration, 8),
        )
        for way in arguments.ways:
            if way in found:
                continue
            sys.stderr.write(f"{way}…\n")
            figures = judged(comparison.predictor(way), entries)
            found[way] = {**figures, "size": comparison.size(way)}
            write()
        real = [way for way in REAL if way in found]
        if any("encode" not in found[way] for way in real):
            for way, seconds in timed(
                {way: comparison.predictor(way) for way in real}
            ).items():
                found[way].update(seconds)
            write()
    except (TinySAMError, ValueError) as error:
        sys.exit(f"Error: {error}")
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()
