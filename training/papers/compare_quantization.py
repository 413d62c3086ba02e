"""Costs and savings of quantization: a model in floats, with integers, and simulated.

Run as ``python -m papers.compare_quantization MODEL QUANTIZED DATA… --calibration DATA… -o
OUT.json``. Figures that OUT.json holds are not measured again, so a run can be interrupted.

Ways: OpenVINO computes ``f32``, ``bf16`` and ``int8``. ``W8A8`` and ``W6A6`` simulate the paper's
scheme in torch (one scale per layer, two ranges after softmax and GELU, also for products of
activations); ``W8A8 min-max`` is the same with scales from min and max instead of searched ones.
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
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.inference.load import load_model
from papers.quantization.simulation import (
    collected,
    paper_scheme,
    roundings,
    simulated_predictor,
)
from papers.shared import (
    add_data_arguments,
    figure,
    images_of_folders,
    refusals,
    say,
    write_json,
)
from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate
from tinysam_training.evaluation.report import Figures, means
from tinysam_training.quantize.calibration_images import calibration_images
from tinysam_training.quantize.quantizing import searched
from tinysam_training.quantize.search import ScaleSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry
    from tinysam_training.quantize.quantizing import Collected

REAL = ("f32", "bf16", "int8")

#: Simulated ways: bits, and rounds of the search.
SIMULATED = {"W8A8": (8, 3), "W8A8 min-max": (8, 0), "W6A6": (6, 3)}

#: Automatic segmentation by the object head alone: searches would take hours when simulated.
FIGURES = ("box_iou", "click1_iou", "head_msa", "head_ap50")

#: Images to encode, and prompts to decode, for the times.
_TURNS, _PROMPTS = 9, 8


class QuantizationComparison:
    """Predictors of all ways, made on demand.

    Parameters
    ----------
    model, quantized : str
        Names or files.
    calibration : sequence of ImageEntry
        For the simulated ways.
    """

    def __init__(
        self, model: str, quantized: str, calibration: Sequence[ImageEntry]
    ) -> None:
        self._model, self._quantized = model, quantized
        self._calibration = calibration
        self._collected: Collected | None = None

    def predictor(self, way: str) -> Predictor:
        """Return the predictor of a way.

        Raises
        ------
        CheckpointError, DataError, ValueError
            If it cannot be made.
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
        scales = searched(
            self._collected, settings, operands=scheme.operands, report=_report
        )
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


def judged(predictor: Predictor, entries: Sequence[ImageEntry]) -> Figures:
    """Measure `FIGURES` of one way, means over images, with eight objects of each."""
    settings = EvaluationSettings(
        objects=8, clicks=1, loose=0, off_centre=0, automatic=False
    )
    figures = means(evaluate(predictor, entries, settings, _progress).results)
    return {name: figures.get(name) for name in FIGURES}


def timed(predictors: Mapping[str, Predictor]) -> dict[str, dict[str, float]]:
    """Median seconds to encode 1024², and to decode and draw a prompt. Ways take turns."""
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
            time.sleep(0.05)  # threads of the run before spin while they wait for work
            begun = time.perf_counter()
            run()
            taken[key].append(time.perf_counter() - begun)
    found: dict[str, dict[str, float]] = {way: {} for way in predictors}
    for (way, what), seconds in taken.items():
        count = _PROMPTS if what == "prompt" else 1
        found[way][what] = statistics.median(seconds) / count
    return found


def table(ways: Mapping[str, Figures]) -> str:
    """Make a Markdown table."""
    header = (
        "way", "MB", "encode, ms", "a prompt, ms",
        "box IoU", "IoU, click", "mSA, head", "AP50, head",
    )  # fmt: skip
    rows = []
    for way, found in ways.items():
        cells = [way, figure(found["size"], 1)]
        for what in ("encode", "prompt"):
            seconds = found.get(what)
            cells.append("simulated" if seconds is None else f"{1000 * seconds:.1f}")
        rows.append([*cells, *(figure(found[name], 4) for name in FIGURES)])
    return markdown_table(header, rows)


def _report(what: str, done: int, total: int) -> None:
    if done == total:
        say(f"{what}: {total}")


def _progress(done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        say(f"{done} of {total} images")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("quantized")
    add_data_arguments(parser)
    parser.add_argument("--calibration", type=Path, nargs="+", required=True)
    parser.add_argument("--ways", nargs="+", default=[*REAL, *SIMULATED])
    arguments = parser.parse_args()
    found: dict[str, Figures] = {}
    if arguments.output.exists():
        found = json.loads(arguments.output.read_text("utf-8"))
    with refusals():
        entries = images_of_folders(arguments.data, arguments.split, arguments.images)
        comparison = QuantizationComparison(
            arguments.model,
            arguments.quantized,
            calibration_images(arguments.calibration, 8),
        )
        for way in arguments.ways:
            if way in found:
                continue
            say(f"{way}…")
            figures = judged(comparison.predictor(way), entries)
            found[way] = {**figures, "size": comparison.size(way)}
            write_json(arguments.output, found)
        real = [way for way in REAL if way in found]
        if any("encode" not in found[way] for way in real):
            for way, seconds in timed(
                {way: comparison.predictor(way) for way in real}
            ).items():
                found[way].update(seconds)
            write_json(arguments.output, found)
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()
