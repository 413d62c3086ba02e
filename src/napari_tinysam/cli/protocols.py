"""``napari-tinysam evaluate --protocol``: figures as the papers of the field measure them."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.cli.console import PartsBar, columns
from napari_tinysam.cli.loading import MANY_IMAGES
from napari_tinysam.errors import TinySAMError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry

_ALL = frozenset({"device", "json", "precision", "protocol", "threads"})
_BOXES = _ALL | {"detections", "image_folder"}

#: The options of `evaluate` that each protocol knows.
_OPTIONS = {
    "coco": _BOXES,
    "lvis": _BOXES,
    "annotator": _ALL
    | {"adapt_minutes", "automatic", "clicks", "images", "partly_annotated", "split"},
    "points": _ALL | {"clicks", "images", "partly_annotated", "split"},
    "volume": (_ALL - {"protocol"}) | {"automatic", "clicks", "images", "objects"},
    "movie": _ALL - {"protocol"},
}

#: Those that are chosen by an option of their own.
_OWN = ("volume", "movie")

#: The headings of boxes' figures.
_HEADINGS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
    "ap_rare": "rare",
    "ap_common": "common",
    "ap_frequent": "frequent",
}


def kind_of(protocol: str | None, volume: bool, movie: bool) -> str | None:
    """Return what is measured: a protocol, "volume", "movie", or None; raises `UsageError`."""
    own = [name for name, is_so in zip(_OWN, (volume, movie), strict=True) if is_so]
    if protocol in _OWN:
        raise UsageError(
            f"--protocol is annotator, coco, lvis or points, not {protocol!r}."
        )
    kinds = own if protocol is None else [*own, "protocol"]
    if len(kinds) > 1:
        raise UsageError(f"Give --{kinds[0]} or --{kinds[1]}, not both.")
    return own[0] if own else protocol


def check_options(protocol: str | None, given: Iterable[str]) -> None:
    """Refuse options that mean nothing for a protocol.

    Parameters
    ----------
    protocol : str or None
        As of `kind_of`.
    given : iterable of str
        Names of the options on the command line.

    Raises
    ------
    UsageError
        If there is no such protocol, an option would be ignored, or one is missing.
    """
    if protocol is None:
        if wrong := {"detections", "image_folder"}.intersection(given):
            raise UsageError(f"{_flag(min(wrong))} needs --protocol coco or lvis.")
        if "adapt_minutes" in given:
            raise UsageError("--adapt-minutes needs --protocol annotator.")
    elif protocol not in _OPTIONS:
        raise UsageError(
            f"--protocol is annotator, coco, lvis or points, not {protocol!r}."
        )
    elif wrong := set(given) - _OPTIONS[protocol]:
        name = protocol if protocol in _OWN else f"protocol {protocol}"
        raise UsageError(f"{_flag(min(wrong))} means nothing with --{name}.")
    elif protocol in ("coco", "lvis") and "detections" not in given:
        raise UsageError(
            f"--protocol {protocol} needs --detections: a detector's boxes, in COCO's result "
            "format."
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def by_boxes(
    load: Callable[..., Predictor],
    annotations: Path,
    detections: Path,
    images: Path,
    protocol: str,
    path: Path | None,
) -> str:
    """Prompt with the boxes of a detector, and measure COCO or LVIS mask AP.

    Parameters
    ----------
    load : callable
        Loads the model for this many ``images``.
    annotations, detections, images : Path
        As for `tinysam_training.evaluation.box_protocol.box_ap`.
    protocol : {"coco", "lvis"}
    path : Path or None
        A file for the figures.

    Returns
    -------
    str
        Lines for people.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise TinySAMError(
            "COCO and LVIS figures need pycocotools, which is not installed: pip install "
            '"napari-tinysam[train]".'
        )
    from tinysam_training.evaluation.box_protocol import box_ap

    predictor = load(images=MANY_IMAGES)
    with PartsBar() as bar:
        figures = box_ap(
            predictor,
            annotations,
            images,
            detections,
            rules="lvis" if protocol == "lvis" else "coco",
            progress=partial(bar.report, "Images"),
        )
    rows = [
        [heading for name, heading in _HEADINGS.items() if name in figures],
        [cell(figures[name]) for name in _HEADINGS if name in figures],
    ]
    return reported(protocol, predictor, figures, rows, path)


def by_points(
    load: Callable[..., Predictor],
    entries: Sequence[ImageEntry],
    points: int,
    path: Path | None,
) -> str:
    """Measure the mean IoU of all masks at 1 to `points` points; otherwise as `by_boxes`."""
    from tinysam_training.evaluation.point_protocol import point_curve

    predictor = load(images=len(entries))
    with PartsBar() as bar:
        curve = point_curve(
            predictor, entries, points, progress=partial(bar.report, "Images")
        )
    rows = [
        ["points", *map(str, range(1, points + 1))],
        ["IoU", *map(cell, curve.iou)],
        ["best of 3", *map(cell, curve.oracle)],
    ]
    return reported("points", predictor, curve.figures(), rows, path)


def by_annotator(
    load: Callable[..., Predictor],
    model: str,
    entries: Sequence[ImageEntry],
    settings: tuple[int, bool],
    minutes: float,
    path: Path | None,
) -> str:
    """Annotate every object of the images in turn, and count gestures and waiting time.

    Parameters
    ----------
    load : callable
        Loads the model for this many ``images``.
    model : str
        Its name or file, with which adapting begins.
    entries : sequence of ImageEntry
    settings : (int, bool)
        Most clicks on an object; whether images are auto-segmented first.
    minutes : float
        For each adaptation, after each five images; 0: the model stays as it is.
    path : Path or None
        A file for the figures.

    Returns
    -------
    str
        Lines for people.
    """
    from dataclasses import asdict

    from tinysam_training.evaluation.annotator import (
        AnnotatorSettings,
        annotate_images,
        summary,
    )

    clicks, automatic = settings
    predictor = load(images=len(entries))
    chosen = AnnotatorSettings(clicks=clicks, automatic=automatic)
    results = []
    with PartsBar() as bar, tempfile.TemporaryDirectory() as folder:
        adapter = _adapter(model, minutes, Path(folder)) if minutes else None
        found = annotate_images(predictor, entries, chosen, adapter)
        for result in found:
            results.append(result)
            bar.report("Images", len(results), len(entries))
    if not results:
        raise TinySAMError("There is no image with objects.")
    groups = {"all": summary(results)}
    for times in sorted({each.adapted for each in results}):
        part = [each for each in results if each.adapted == times]
        groups[f"adapted {times}×" if times else "as it is"] = summary(part)
    names = ("images", "objects", "gestures", "seconds", "accepted", "painted")
    rows = [["an object takes", *names]]
    rows += [[title, *(_number(of[n]) for n in names)] for title, of in groups.items()]
    figures = {
        "figures": groups,
        "results": [asdict(each) for each in results],
        "automatic": automatic,
        "adapt_minutes": minutes,
    }
    return reported("annotator", predictor, figures, rows, path)


def _adapter(
    model: str, minutes: float, folder: Path
) -> Callable[[Sequence[ImageEntry]], Predictor | None]:
    """Make what adapts the model to annotated images: the dock's adaptation, in this process.

    The first round begins with `model`, the next ones with the last result that was better.
    """
    from napari_tinysam.inference.load import load_model
    from tinysam_training.commands.adapt import adapt
    from tinysam_training.commands.adaptation import Order, begin
    from tinysam_training.commands.samples import Sample

    rounds = 0
    start = model

    def adapted(entries: Sequence[ImageEntry]) -> Predictor | None:
        nonlocal rounds, start
        rounds += 1
        images = [(entry.name, entry.read()) for entry in entries]
        samples = (
            Sample(name, image.rgb, image.labels[0], image.complete)
            for name, image in images
        )
        target = folder / f"round-{rounds}.safetensors"
        order = Order(f"round {rounds}", str(target), start, minutes)
        work = begin(order, samples, folder / "adaptations")
        adapt(work)
        end = work.end or {}
        if end.get("verdict") != "better":
            return None
        start = end["model"]
        return load_model(start)

    return adapted


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def cell(value: float | None) -> str:
    """Return a figure with three places."""
    return "–" if value is None else f"{value:.3f}"


def reported(
    protocol: str,
    predictor: Predictor,
    figures: Mapping[str, Any],
    rows: Sequence[Sequence[str]],
    path: Path | None,
) -> str:
    """Write the figures as JSON if there is a path; return lines for people."""
    from napari_tinysam.files.atomic import write_text

    lines = [f"{predictor.name}, {predictor.runtime_name}", columns(rows)]
    if path is not None:
        content: dict[str, Any] = {
            "protocol": protocol,
            "model": predictor.name,
            "runtime": predictor.runtime_name,
            **figures,
        }
        write_text(path, json.dumps(content, indent=2, allow_nan=False))
        lines.append(f"{path}: these figures")
    return "\n".join(lines)
