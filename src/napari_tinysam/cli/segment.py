"""``napari-tinysam segment``: the objects at points and in boxes of one plane, as labels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_tinysam.cli.console import counted, note
from napari_tinysam.cli.loading import load_predictor
from napari_tinysam.cli.options import (
    ChannelOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    SeriesOption,
    ThreadsOption,
    argument,
    option,
    output_option,
)
from napari_tinysam.errors import SelectionError, UsageError, explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.cli.prompt_options import ObjectPrompt
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask

#: Objects decoded at once: three masks of 256 KB each stay in memory until they are drawn.
_BATCH = 64


def segment(
    image: Annotated[
        Path, argument("IMAGE", "TIFF, OME-TIFF, OME-Zarr, NPY, PNG or JPEG.")
    ],
    output: Annotated[
        Path,
        output_option(
            "FILE", "Labels to write: .tif, .png or .npy. An existing file is replaced."
        ),
    ],
    point: Annotated[
        list[str] | None, option("x,y", "A pixel on the object. Repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, option("x,y", "A pixel outside the object. Repeatable.")
    ] = None,
    box: Annotated[
        list[str] | None, option("x0,y0,x1,y1", "A box around one object. Repeatable.")
    ] = None,
    model: ModelOption = "default",
    channel: ChannelOption = None,
    plane: Annotated[
        str | None,
        option(
            "P",
            "Which plane of a stack, from 0; one number for each of its axes (3,0). "
            "Without it: the first.",
        ),
    ] = None,
    series: SeriesOption = None,
    overlay: Annotated[
        Path | None,
        option("FILE", "Also write a PNG of the image, outlines and prompts."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Write the objects at points and in boxes of IMAGE as labels.

    Coordinates are pixels: x to the right, y down, the centre of the first pixel is 0,0.

    Without boxes, all points are about one object. Each box is an object of its own. With one box,
    all points refine its object. With several boxes, a point refines the smallest box that contains
    it, and the points outside all boxes make one further object.

    Labels are numbered from 1: first the boxes in their order, then the object that has points
    only. Each takes free pixels: of two objects that claim a pixel, the lower number gets it.
    """
    from napari_tinysam.cli import prompt_options as prompts
    from napari_tinysam.files.planes import read_plane
    from napari_tinysam.files.writing import write_labels

    started = time.perf_counter()
    points = [prompts.parse_point(text) for text in point or ()]
    negatives = [prompts.parse_point(text) for text in negative or ()]
    boxes = [prompts.parse_box(text) for text in box or ()]
    prompts.group(points, negatives, boxes)  # complain before the slow part
    selection = {
        name: None if text is None else prompts.parse_indices(text)
        for name, text in (("channel", channel), ("plane", plane))
    }
    _check_outputs(image, output, overlay)
    try:
        source = read_plane(image, series=series, **selection)
    except SelectionError as error:
        raise UsageError(str(error)) from error
    boxes = prompts.check_inside([*points, *negatives], boxes, source.size)
    objects = prompts.group(points, negatives, boxes)
    for remark in source.notes:
        note(remark)
    with explained():
        predictor = load_predictor(model, device, precision, threads)
        result = segment_objects(predictor, source.pixels, objects, **source.options)
    write_labels(output, result.labels)
    if overlay is not None:
        result.write_overlay(overlay, source.pixels, **source.options)
    typer.echo(result.summary(output, time.perf_counter() - started))
    for warning in result.warnings:
        note(warning)


def _check_outputs(image: Path, output: Path, overlay: Path | None) -> None:
    from napari_tinysam.files.writing import LABEL_SUFFIXES, check_output

    check_output(output, LABEL_SUFFIXES)
    if overlay is not None:
        check_output(overlay, (".png",))
        if _same_file(output, overlay):
            raise UsageError("Labels and overlay need a file each.")
    if any(path and _same_file(image, path) for path in (output, overlay)):
        raise UsageError(f"The output would replace the image {image} itself.")


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.resolve() == b.resolve() or a.samefile(b)
    except (OSError, ValueError, RuntimeError):  # one does not exist, or cannot
        return False


# --------------------------------------------------------- what segment and demo share


@dataclass(frozen=True, eq=False)
class Result:
    """Labels of one plane and how they were made.

    Parameters
    ----------
    labels : numpy.ndarray
        (Y, X) uint16 or uint32; label 1 is the first of `objects`.
    scores : list of float
        The IoU that the model predicts for each mask.
    objects : list of ObjectPrompt
        The prompts.
    model : str
        Model and runtime, for messages.
    """

    labels: npt.NDArray[np.uint16 | np.uint32]
    scores: list[float]
    objects: list[ObjectPrompt]
    model: str

    @property
    def areas(self) -> npt.NDArray[np.intp]:
        """(N,) pixels of each object in the labels."""
        import numpy as np

        return np.bincount(self.labels.ravel(), minlength=len(self.objects) + 1)[1:]

    def summary(self, path: Path, seconds: float) -> str:
        """Return a line about all objects and one about each.

        Parameters
        ----------
        path : Path
            The file of the labels.
        seconds : float
            The time it took.
        """
        height, width = self.labels.shape
        found = counted(int((self.areas > 0).sum()), "object")
        lines = [
            f"{path}: {found}, {width} × {height} pixels, {self.model}, {seconds:.1f} s",
            "label  area (pixels)  score",
        ]
        for number, row in enumerate(zip(self.areas, self.scores, strict=True), 1):
            lines.append("{:5d}  {:13d}  {:5.2f}".format(number, *row))
        return "\n".join(lines)

    @property
    def warnings(self) -> list[str]:
        """A sentence about each object that is not in the labels."""
        return [
            f"Object {number} has no pixels: its mask is empty, or lies under objects "
            "before it."
            for number, area in enumerate(self.areas, start=1)
            if not area
        ]

    def write_overlay(
        self, path: Path, pixels: npt.NDArray[Any], **options: Any
    ) -> None:
        """Write the image with outlines and prompts drawn over it.

        Parameters
        ----------
        path : Path
            A PNG file.
        pixels : numpy.ndarray
            The image.
        **options
            Of `to_rgb`.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        from napari_tinysam.cli.prompt_options import to_prompts
        from napari_tinysam.files.overlay import draw_overlay
        from napari_tinysam.files.writing import write_picture
        from napari_tinysam.image import to_rgb

        rgb = to_rgb(pixels, **options)
        write_picture(path, draw_overlay(rgb, self.labels, to_prompts(self.objects)))


def segment_objects(
    predictor: Predictor,
    pixels: npt.NDArray[Any],
    objects: list[ObjectPrompt],
    **options: Any,
) -> Result:
    """Encode a plane, or if it is large the parts with its objects, and decode these.

    Parameters
    ----------
    predictor : Predictor
    pixels : numpy.ndarray
        The image.
    objects : list of ObjectPrompt
        What to segment, in pixels of the image.
    **options
        Of `to_rgb`.
    """
    from napari_tinysam.image import to_eight_bits
    from napari_tinysam.inference.looks import is_large

    plane = to_eight_bits(pixels, **options)
    shape = int(plane.shape[0]), int(plane.shape[1])
    found: Iterable[tuple[BoxedMask, float]]
    if is_large(shape):
        found = _seen_in_parts(predictor, plane, objects)
    else:
        seen = _predicted(predictor, predictor.encode(pixels, **options), objects)
        found = (each[:2] for each in seen)
    labels, scores = _labels(shape, len(objects), found)
    name = f"model {predictor.name}, {predictor.runtime_name}"
    return Result(labels, scores, objects, name)


def _predicted(
    predictor: Predictor, embedding: Embedding, objects: Sequence[ObjectPrompt]
) -> Iterator[tuple[BoxedMask, float, float]]:
    """Give the best mask of each object, its score, and how well the object maps confirm it."""
    from napari_tinysam.cli.prompt_options import to_prompts

    for start in range(0, len(objects), _BATCH):
        prompts = to_prompts(objects[start : start + _BATCH])
        masks = predictor.predict(embedding, prompts)
        for row, candidate in enumerate(masks.best):
            boxed = masks.boxed(row, int(candidate)).without_specks()
            score = float(masks.scores[row, candidate])
            confirmed = embedding.confirmation(masks.logits[row, candidate])
            yield boxed, score, score if confirmed is None else confirmed


def _seen_in_parts(
    predictor: Predictor, plane: npt.NDArray[np.uint8], objects: Sequence[ObjectPrompt]
) -> list[tuple[BoxedMask, float]]:
    """Segment objects of a large plane, (Y, X, 1 or 3), each in the look that shows it well.

    Contrast is that of the plane, not of the look.
    """
    from napari_tinysam.image import as_rgb
    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.pyramid import (
        LookPyramid,
        Question,
        Seen,
        SeenObject,
        answered,
    )

    pyramid = LookPyramid.of((int(plane.shape[0]), int(plane.shape[1])))
    cache = RecentEmbeddings()

    def ask(look: Look, numbers: list[int]) -> Seen[tuple[BoxedMask, float]]:
        embedding = cache.get(look)
        if embedding is None:
            embedding = predictor.encode(as_rgb(plane[look.rows, look.columns]))
            cache.put(look, embedding)
        moved = [objects[number].moved(-look.x0, -look.y0) for number in numbers]
        found = []
        for mask, score, confirmed in _predicted(predictor, embedding, moved):
            placed = look.placed(mask, pyramid.shape)
            found.append(SeenObject((placed, score), placed, confirmed))
        return Seen(found, embedding.usual_side * look.scale)

    questions = [
        Question(each.around, pyramid.own, sized=each.box is not None, any_size=True)
        for each in objects
    ]
    return [answer.found for answer in answered(pyramid, questions, ask)]


def _labels(
    shape: tuple[int, int], count: int, found: Iterable[tuple[BoxedMask, float]]
) -> tuple[npt.NDArray[np.uint16 | np.uint32], list[float]]:
    """(Y, X) labels from 1 in the order of the objects, and their scores."""
    import numpy as np

    from napari_tinysam.labels import draw_mask

    dtype = np.uint16 if count <= np.iinfo(np.uint16).max else np.uint32
    labels = np.zeros(shape, dtype)
    scores: list[float] = []
    for label, (mask, score) in enumerate(found, start=1):
        draw_mask(labels, mask, label)
        scores.append(score)
    return labels, scores
