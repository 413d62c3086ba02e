"""Compare the plugin's speed with the usual way, in one run: ``python -m benchmarks``.

The usual way is torch, eager, in float32, with `segment_anything`'s decoder and generator, on the
same weights. Ours is what the plugin runs on this computer. Figures of the window need a screen or
``xvfb-run``.

    python -m benchmarks                                 # about four minutes on two cores
    python -m benchmarks --images DATA/dsb2018/val -n 3  # and guided search on three images
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from napari_tinysam import Prompts, checkpoints, load_model
from napari_tinysam.everything import LabelSettings, Segmentation, Thresholds
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.image import as_rgb, to_eight_bits
from napari_tinysam.inference.resize import resize_longest_side
from tinysam_training.synthetic import entries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tinysam.inference.predictor import Predictor

#: Thresholds of both sides' masks, and points a side of the grid.
SCORE, STABILITY, POINTS = 0.5, 0.5, 32

ROUNDS = 7

PARTS = ("network", "search", "window")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    work : str
    usual : float or None
        Seconds; None where there is nothing to compare with.
    ours : float
        Seconds, or megabytes of memory.
    target : str
    note : str
    """

    work: str
    usual: float | None
    ours: float
    target: str
    note: str = ""

    def cells(self) -> list[str]:
        """Give the cells of the table's row."""
        if "MB" in self.target:
            return [self.work, "", f"{self.ours:,.0f} MB", "", self.target, self.note]
        usual = ratio = ""
        if self.usual is not None:
            usual, ratio = _in_words(self.usual), f"{self.usual / self.ours:.1f} ×"
        return [self.work, usual, _in_words(self.ours), ratio, self.target, self.note]


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def timed(*runs: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each. They take turns, so that a busy machine slows all of them."""
    for run in runs:
        run()
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, times in zip(runs, taken, strict=True):
            time.sleep(0.05)  # threads of the run before spin while they wait for work
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
    return [statistics.median(times) for times in taken]


class Usual:
    """The same weights, run as `segment_anything` runs them."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.model = checkpoints.load(name).model.to(device)
        self.device = device

    @torch.inference_mode()
    def encode(self, rgb: np.ndarray) -> torch.Tensor:
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].to(self.device)
        found = self.model.encode(image.float())
        self._wait()
        return found

    @torch.inference_mode()
    def see(self, rgb: np.ndarray) -> None:
        """Compute embedding and object maps, as `Runtime.encode` does."""
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].to(self.device)
        features = self.model.features(self.model.normalize_and_pad(image.float()))
        if self.model.object_head is not None:
            self.model.object_maps(features)
        self._wait()

    @torch.inference_mode()
    def decode(self, embedding: torch.Tensor, xy: np.ndarray) -> None:
        points = torch.from_numpy(xy).to(self.device)
        labels = torch.ones(points.shape[:2], dtype=torch.int64, device=self.device)
        self.model.decode(embedding, points=points, labels=labels)
        self._wait()

    def generator(self) -> SamAutomaticMaskGenerator:
        model: Any = self.model
        model.image_encoder.img_size = model.image_size
        parts = model.image_encoder, model.prompt_encoder, model.mask_decoder
        return SamAutomaticMaskGenerator(
            Sam(*parts).to(self.device).eval(),
            points_per_side=POINTS,
            pred_iou_thresh=SCORE,
            stability_score_thresh=STABILITY,
        )

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def image() -> np.ndarray:
    """(1024, 1024, 3) synthetic nuclei of a seed that no training uses."""
    entry = entries(1, seed=2**31 - 1, kinds=("nuclei",), size=(1024, 1024))[0]
    return entry.read().rgb


def encoding(usual: Usual, predictor: Predictor, rgb: np.ndarray) -> list[Row]:
    """Time the network alone, and the plugin's whole encoding."""
    runtime = predictor._runtime
    large = np.repeat(np.repeat(rgb[..., 0], 2, axis=0), 2, axis=1).astype(np.uint16)
    large *= 7
    before, embedded, now, whole, prepared = timed(
        lambda: usual.see(rgb),
        lambda: usual.encode(rgb),
        lambda: runtime.encode(rgb),
        lambda: predictor.encode(rgb),
        lambda: prepare(large, runtime.image_size),
    )
    bare = f"without the object maps, torch alone: {_in_words(embedded)}"
    share = f"{prepared / now:.0%} of the network"
    return [
        Row("encode 1024²", before, now, "≥ 7 ×", f"the network; {bare}"),
        Row("", before, whole, "", "as the plugin encodes"),
        Row("contrast, resizing, 2048² uint16", None, prepared, "≤ 15 %", share),
    ]


def prepare(plane: np.ndarray, side: int) -> None:
    """Prepare an image for the network."""
    as_rgb(resize_longest_side(to_eight_bits(plane), side))


def decoding(usual: Usual, predictor: Predictor, rgb: np.ndarray) -> list[Row]:
    """Time prompts in the runtime alone, and in the plugin's whole prediction."""
    runtime, embedding = predictor._runtime, predictor.encode(rgb)
    features, official = embedding.features, usual.encode(rgb)
    rng = np.random.default_rng(0)
    rows = []
    for count, target in ((1, "≥ 5 ×"), (64, "≥ 8 ×")):
        xy = rng.uniform(50, 970, (count, 1, 2)).astype(np.float32)
        drawn = None
        if runtime.dense_prompts:
            drawn = rng.normal(0, 8, (count, 256, 256)).astype(np.float32)
        given = {
            "points": xy,
            "labels": np.ones((count, 1), np.int32),
            "boxes": None,
            "masks": drawn,
        }
        before, now, whole = timed(
            lambda xy=xy: usual.decode(official, xy),
            lambda given=given: runtime.decode(features, **given),
            lambda xy=xy: predictor.predict(embedding, Prompts(points=xy)),
        )
        what = f"decode {count} prompt{'s' if count > 1 else ''}"
        rows += [
            Row(what, before, now, target, "the network"),
            Row("", before, whole, "", "as the plugin predicts, drawing included"),
        ]
    return rows


def searching(usual: Usual, predictor: Predictor, rgb: np.ndarray) -> list[Row]:
    """Time automatic segmentation and the official generator, encoding included on both sides.

    Ours is the median of three runs; the usual way is too slow to repeat.
    """
    begun = time.perf_counter()
    with torch.inference_mode():
        usual.generator().generate(rgb)
    usual_seconds = time.perf_counter() - begun
    own = Thresholds.from_notes(predictor.notes)
    filters = {"score_threshold": SCORE, "stability_threshold": STABILITY}
    grid = replace(own.search, points_per_side=POINTS, **filters)
    rows = []
    for mode, thresholds in (
        ("hierarchical", replace(own, search=grid, labels=LabelSettings(SCORE))),
        ("guided", own),
    ):
        if mode == "guided" and not predictor.has_object_head:
            continue
        # The first run reads a decoder from its file, and single runs vary.
        runs = [segmented(predictor, rgb, mode, thresholds) for _ in range(3)]
        seconds, report = sorted(runs, key=itemgetter(0))[1]
        stages = ", ".join(f"{k} {v:.2f}" for k, v in report.seconds.items())
        note = (
            f"{report.decoded} of {report.decoded + report.skipped} prompts; {stages}"
        )
        target = "≥ 20 ×" if mode == "hierarchical" else ""
        rows.append(Row(f"{mode}, 1024²", usual_seconds, seconds, target, note))
    return rows


def segmented(
    predictor: Predictor, rgb: np.ndarray, mode: Any, thresholds: Thresholds
) -> tuple[float, Any]:
    """Segment one image: seconds, encoding and labels included, and the search's report."""
    begun = time.perf_counter()
    embedding = predictor.encode(rgb)
    found = Segmentation(predictor, embedding, mode, thresholds=thresholds).run()
    found.labels()
    return time.perf_counter() - begun, found.report


def on_images(
    usual: Usual, predictor: Predictor, folder: Path, count: int
) -> list[Row]:
    """Guided search and the official generator on real images, mean seconds of one."""
    from tinysam_training.data import find_pairs
    from tinysam_training.data.spacing import evenly_spaced

    own = Thresholds.from_notes(predictor.notes)
    generator, before, now, prompts = usual.generator(), [], [], []
    for entry in evenly_spaced(find_pairs(folder, None), count):
        rgb = entry.read().rgb
        begun = time.perf_counter()
        with torch.inference_mode():
            generator.generate(rgb)
        before.append(time.perf_counter() - begun)
        seconds, report = segmented(predictor, rgb, "guided", own)
        now.append(seconds)
        prompts.append(report.decoded)
    note = f"{len(now)} images, {np.mean(prompts):.0f} prompts on average"
    return [
        Row(
            "guided, real images",
            float(np.mean(before)),
            float(np.mean(now)),
            "≥ 60 ×",
            note,
        )
    ]


def in_the_window(model: str) -> list[Row]:
    """Open napari and use the dock in another process (`session.py`)."""
    command = [sys.executable, str(Path(__file__).with_name("session.py")), model]
    environment = dict(os.environ)
    if sys.platform == "linux" and shutil.which("xvfb-run"):
        environment["QT_QPA_PLATFORM"] = "xcb"
        command = ["xvfb-run", "-a", "-s", "-screen 0 1920x1200x24", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(f"No figures of the window: {done.stderr[-500:]}\n")
        return []
    found = json.loads(lines[-1])
    return [
        Row("dock opens", None, found["open"], "300 ms"),
        Row(
            "dock opened → 1024² image embedded",
            None,
            found["first"],
            "1 s",
            "model not loaded yet, converted before",
        ),
        Row(
            "1024² image picked → embedded",
            None,
            found["next image"],
            "1 s",
            "dock open, model loaded",
        ),
        Row("first hover → preview drawn", None, found["first hover"], ""),
        Row("first click → mask drawn", None, found["first click"], ""),
        Row("hover → preview drawn, median", None, found["hover"][0], ""),
        Row("hover → preview drawn, p95", None, found["hover"][1], "40 ms"),
        Row("click → mask drawn, median", None, found["click"][0], ""),
        Row("click → mask drawn, p95", None, found["click"][1], ""),
        Row("memory of the session", None, found["memory"], "1,200 MB", "at most"),
    ]


def table(rows: Sequence[Row]) -> str:
    """Make a Markdown table."""
    header = ("work", "usual", "ours", "ratio", "target", "")
    return markdown_table(header, [row.cells() for row in rows])


def machine(predictor: Predictor) -> str:
    """Describe the machine."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text("utf-8").splitlines()
        named = [line.partition(":")[2] for line in lines if "model name" in line]
        name = named[0].strip() if named else name
    return (
        f"{name}, {os.cpu_count()} cores; torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads; {predictor.name}, {predictor.runtime_name}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=Path, help="a folder of labelled images")
    parser.add_argument("-n", type=int, default=3, help="number of images")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="of the table"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    say = sys.stderr.write
    rows: list[Row] = []
    parts = arguments.parts
    if "window" in parts:
        say("The window…\n")
        # Convert it first if needed, so that the window does not wait for that.
        load_model(arguments.model, device=arguments.device, convert=say)
        rows += in_the_window(arguments.model)
    predictor = load_model(arguments.model, device=arguments.device, convert=say)
    on_gpu = "cuda" in predictor.runtime_name
    usual = Usual(arguments.model, torch.device("cuda" if on_gpu else "cpu"))
    rgb = image()
    model_rows: list[Row] = []
    if "network" in parts:
        say("Encoding and decoding…\n")
        model_rows += encoding(usual, predictor, rgb) + decoding(usual, predictor, rgb)
    if "search" in parts:
        say("Automatic segmentation…\n")
        model_rows += searching(usual, predictor, rgb)
    if "search" in parts and arguments.images is not None:
        say("Real images…\n")
        model_rows += on_images(usual, predictor, arguments.images, arguments.n)
    rows = model_rows + rows
    sys.stdout.write(f"{machine(predictor)}\n\n{table(rows)}\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
