"""``napari-tinysam evaluate``: how good a model is on labelled images."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli import in_depth_and_time, protocols
from napari_tinysam.cli.console import counted, note, progress_bar
from napari_tinysam.cli.loading import find_images, load_predictor
from napari_tinysam.cli.options import (
    DeviceOption,
    ModelArgument,
    PartlyAnnotatedOption,
    PrecisionOption,
    ThreadsOption,
    argument,
    option,
)
from napari_tinysam.errors import FileError, TinySAMError, explained

if TYPE_CHECKING:
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.evaluation.evaluate import Evaluation, EvaluationSettings
    from tinysam_training.labelled_image import ImageEntry


def evaluate(
    context: typer.Context,
    model: ModelArgument,
    data: Annotated[
        Path,
        argument(
            "DATA",
            "A folder of images and their labels; with --protocol coco or lvis a JSON file "
            "of annotations.",
        ),
    ],
    json: Annotated[
        Path | None, option("FILE", "Also write the figures as JSON.")
    ] = None,
    output: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Also write curves, example images and the figures of each image.",
            "--output",
            "-o",
        ),
    ] = None,
    split: Annotated[
        str | None,
        option(
            "NAME",
            "train, val or test. Without it: val if DATA is split, else all images.",
        ),
    ] = None,
    objects: Annotated[
        int, option("N", "Objects of an image that get prompts; 0: all.", min=0)
    ] = 8,
    clicks: Annotated[int, option("N", "Clicks on each object.", min=1)] = 9,
    images: Annotated[
        int | None, option("N", "At most N images of each set.", min=1)
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    partly_annotated: PartlyAnnotatedOption = False,
    automatic: Annotated[
        bool,
        typer.Option(
            "--automatic/--no-automatic",
            help="Also segment each image without prompts, as Auto-segment does; it takes longest. "
            "The object head alone is always judged.",
        ),
    ] = True,
    volume: Annotated[
        bool,
        typer.Option(
            "--volume",
            help="DATA holds stacks NAME.tif with NAME_label.tif: objects are clicked and followed "
            "through planes; with --automatic, planes are segmented and linked.",
        ),
    ] = False,
    movie: Annotated[
        bool,
        typer.Option(
            "--movie",
            help="DATA is a data set of the Cell Tracking Challenge (01, 01_GT …) or one "
            "sequence of it: SEG, DET and TRA. MODEL may be the folder of a result instead.",
        ),
    ] = False,
    protocol: Annotated[
        str | None,
        option(
            "NAME",
            "Measure as papers do instead. coco, lvis: mask AP with the boxes of a detector "
            "as prompts. points: mean IoU of all masks at 1 to --clicks points. annotator: "
            "every object of the images in turn is auto-segmented, clicked or painted; gestures "
            "and waiting time for each.",
        ),
    ] = None,
    adapt_minutes: Annotated[
        float,
        option(
            "M",
            "For --protocol annotator: adapt the model to what was annotated, after each five "
            "images, for this long; 0: never.",
            min=0,
        ),
    ] = 0.0,
    detections: Annotated[
        Path | None,
        option(
            "FILE", "For coco and lvis: the boxes, a JSON file in COCO's result format."
        ),
    ] = None,
    image_folder: Annotated[
        Path | None,
        option(
            "FOLDER", "For coco and lvis: the images. Without it: the folder of DATA."
        ),
    ] = None,
) -> None:
    """Measure how good MODEL is on the labelled images in DATA.

    Prompts come from the labels: the box around an object, a click at its deepest pixel, and
    further clicks where the mask is wrong. Figures are means over images, with 95 % intervals: IoU
    for a box, for a careless box, for one click, for one off the centre by a third of the object's
    inner radius, for the best of the three masks of one click and for three clicks, the clicks
    needed for an IoU of 0.85 (one more than made if they do not suffice), the error of the
    predicted score, mSA and AP50 of Auto-segment (guided by the object head; without one the grid
    of points), and mSA of the object head alone.

    With --volume, means over stacks: IoU in 3-D of objects clicked once and followed, planes that
    are followed before the first failure, also as a share of the object's, clicks for an IoU of
    0.9, and mSA and AP50 in 3-D of planes segmented without clicks and linked. With --movie,
    frames are segmented and tracked as 'napari-tinysam track' does.
    """
    given = {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    kind = protocols.kind_of(protocol, volume, movie)
    protocols.check_options(kind, given - {"model", "data", "volume", "movie"})
    _check_outputs(json, output)
    load = partial(load_predictor, model, device, precision, threads)
    interrupted = False
    with explained():
        if detections is not None and protocol is not None:
            images_of = data.parent if image_folder is None else image_folder
            text = protocols.by_boxes(load, data, detections, images_of, protocol, json)
        elif kind == "volume":
            text = in_depth_and_time.by_volumes(
                load, data, (objects, clicks, automatic), images, json
            )
        elif kind == "movie":
            text = in_depth_and_time.by_movies(load, Path(model), data, json)
        else:
            entries = _entries(data, split, images, not partly_annotated)
            if protocol == "annotator":
                how = clicks, automatic
                text = protocols.by_annotator(
                    load, model, entries, how, adapt_minutes, json
                )
            elif protocol is not None:
                text = protocols.by_points(load, entries, clicks, json)
            else:
                from tinysam_training.evaluation.evaluate import EvaluationSettings

                settings = EvaluationSettings(
                    objects=objects,
                    clicks=clicks,
                    automatic=automatic,
                    keep_masks=output is not None,
                )
                evaluation = _evaluated(load(images=len(entries)), entries, settings)
                interrupted = len(evaluation.results) < len(entries)
                text = _report(evaluation, entries, json, output)
    typer.echo(text)
    if interrupted:
        raise KeyboardInterrupt


def _check_outputs(json: Path | None, folder: Path | None) -> None:
    """Refuse outputs that cannot be written, before the slow part; raises `FileError`."""
    from napari_tinysam.files.writing import check_output

    if json is not None:
        check_output(json, (".json",))
    if folder is None:
        return
    try:
        existing = folder.resolve()
        while not existing.exists():
            existing = existing.parent
    except (OSError, ValueError, RuntimeError) as error:  # too long, null byte, loop
        raise FileError(f"{str(folder)!r} cannot be written.") from error
    if not existing.is_dir():
        raise FileError(f"{existing} is a file; --output names a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FileError(f"You may not write to the folder {existing}.")


def _entries(
    data: Path, split: str | None, images: int | None, complete: bool
) -> list[ImageEntry]:
    """List the images to judge by, and report those that are left out."""
    from tinysam_training.data.spacing import evenly_spaced

    found = find_images(data, split, "val", complete)
    texts = [finding.text for finding in found.findings]
    if not found:
        raise TinySAMError(texts[0] if texts else f"{data} holds no images.")
    for text in texts[:3]:
        note(text)
    if len(texts) > 3:
        note(f"{len(texts) - 3} more files were left out.")
    sets: dict[str, list[ImageEntry]] = {}
    for entry in found:
        sets.setdefault(entry.dataset, []).append(entry)
    return [
        entry
        for some in sets.values()
        for entry in evenly_spaced(some, images or len(some))
    ]


def _evaluated(
    predictor: Predictor, entries: list[ImageEntry], settings: EvaluationSettings
) -> Evaluation:
    """Results of all images, or after Ctrl+C of those before it."""
    from tinysam_training.evaluation.evaluate import Evaluation, evaluate_images

    results = []
    found = evaluate_images(predictor, entries, settings)
    with progress_bar(iterable=found, total=len(entries), unit="image") as bar:
        try:
            for result in bar:
                results.append(result)
        except KeyboardInterrupt:
            if not results:
                raise
    name, runtime = predictor.name, predictor.runtime_name
    return Evaluation(name, runtime, settings, tuple(results))


def _report(
    evaluation: Evaluation,
    entries: list[ImageEntry],
    json: Path | None,
    folder: Path | None,
) -> str:
    """Write the files that were asked for; return the table and where they are."""
    from tinysam_training.evaluation.pictures import write_pictures
    from tinysam_training.evaluation.report import table, write_csv, write_json

    done = len(evaluation.results)
    if done < len(entries):
        note(
            f"These figures are of {counted(done, 'image')} of {len(entries)}; no file was written."
        )
        return table(evaluation)
    lines = [f"{evaluation.model}, {evaluation.runtime}", table(evaluation)]
    if json is not None:
        write_json(json, evaluation)
        lines.append(f"{json}: these figures and more")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "evaluation.json", evaluation)
        write_csv(folder / "images.csv", evaluation)
        names = write_pictures(folder, evaluation, entries)
        files = ", ".join(["evaluation.json", "images.csv", *names])
        lines.append(f"{folder}: {files}")
    return "\n".join(lines)
