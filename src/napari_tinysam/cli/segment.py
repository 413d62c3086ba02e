"""The work behind ``napari-tinysam segment`` and ``demo``: one plane, its objects, two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.cli import prompts as cli_prompts
from napari_tinysam.cli.running import Running
from napari_tinysam.errors import SelectionError, UsageError, explained
from napari_tinysam.files import planes as reading
from napari_tinysam.files import writing
from napari_tinysam.labels import draw_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.cli.prompts import Box, ObjectPrompt, Point
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: Objects decoded at once: three masks of 256 KB each stay in memory until they are drawn.
_BATCH = 64


@dataclass(frozen=True)
class SegmentRequest:
    """What the command line says, as text and paths.

    Parameters
    ----------
    image, output, overlay : Path
        What to read, and where labels and (not always) a picture go.
    point, negative, box : sequence of str
        Prompts.
    channel, plane : str or None
        Which part of the file.
    series : int or None
        Which image of it.
    """

    image: Path
    output: Path
    overlay: Path | None = None
    point: Sequence[str] = ()
    negative: Sequence[str] = ()
    box: Sequence[str] = ()
    channel: str | None = None
    plane: str | None = None
    series: int | None = None

    def read(self) -> tuple[reading.FilePlane, list[ObjectPrompt]]:
        """Read the image and the prompts, and check all that can be checked before the model.

        Raises
        ------
        UsageError
            If the prompts, the selection or the outputs make no sense for this image.
        TinySAMError
            If the image cannot be read.
        """
        try:
            points, negatives, boxes = self._prompts()
            channel, plane = (
                None if text is None else cli_prompts.parse_indices(text)
                for text in (self.channel, self.plane)
            )
            self._check_outputs()
            source = reading.read_plane(
                self.image, channel=channel, plane=plane, series=self.series
            )
            boxes = cli_prompts.check_inside([*points, *negatives], boxes, source.size)
            return source, cli_prompts.group(points, negatives, boxes)
        except SelectionError as error:
            raise UsageError(str(error)) from error

    def _prompts(self) -> tuple[list[Point], list[Point], list[Box]]:
        points = [cli_prompts.parse_point(text) for text in self.point]
        negatives = [cli_prompts.parse_point(text) for text in self.negative]
        boxes = [cli_prompts.parse_box(text) for text in self.box]
        cli_prompts.group(points, negatives, boxes)  # complain before the slow part
        return points, negatives, boxes

    def _check_outputs(self) -> None:
        writing.check_output(self.output, writing.LABEL_SUFFIXES)
        outputs = [self.output]
        if self.overlay is not None:
            writing.check_output(self.overlay, (".png",))
            outputs.append(self.overlay)
        resolved = [path.resolve() for path in outputs]
        if any(_same_file(self.image, path) for path in resolved):
            raise UsageError(f"The output would replace the image {self.image} itself.")
        if len(resolved) == 2 and _same_file(*resolved):
            raise UsageError("Labels and overlay need a file each.")


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.resolve() == b.resolve() or a.samefile(b)
    except (OSError, ValueError, RuntimeError):  # one does not exist, or cannot
        return False


@dataclass(frozen=True, eq=False)
class Result:
    """Labels of one plane and how they were made.

    Parameters
    ----------
    labels : numpy.ndarray
        (Y, X) uint16 or uint32; object number 1 is the first of `objects`.
    scores : list of float
        The IoU that the model predicts for each mask.
    objects : list of ObjectPrompt
        What was asked.
    model : str
        What answered, for messages.
    """

    labels: npt.NDArray[np.uint16 | np.uint32]
    scores: list[float]
    objects: list[ObjectPrompt]
    model: str

    @property
    def areas(self) -> npt.NDArray[np.intp]:
        """(N,) pixels of each object in the labels."""
        return np.bincount(self.labels.ravel(), minlength=len(self.objects) + 1)[1:]

    def summary(self, name: str, seconds: float) -> str:
        """Return a line about all objects and one about each.

        Parameters
        ----------
        name : str
            What was written.
        seconds : float
            How long it took.
        """
        height, width = self.labels.shape
        found = np.count_nonzero(self.areas)
        noun = "object" if found == 1 else "objects"
        lines = [
            f"{name}: {found} {noun}, {width} × {height} pixels, {self.model}, "
            f"{seconds:.1f} s",
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

    def write_labels(self, path: Path) -> None:
        """Write the labels; raises `FileError` where that is not possible."""
        writing.write_labels(path, self.labels)

    def write_overlay(
        self, path: Path, pixels: npt.NDArray[Any], options: dict[str, Any]
    ) -> None:
        """Write the image with the result drawn over it.

        Parameters
        ----------
        path : Path
            A PNG file.
        pixels : numpy.ndarray
            The image.
        options : dict
            Keyword arguments of `to_rgb` for it.

        Raises
        ------
        TinySAMError
            If the file cannot be written.
        """
        from napari_tinysam.files.overlay import draw_overlay
        from napari_tinysam.image import to_rgb

        prompts = cli_prompts.to_prompts(self.objects)
        picture = draw_overlay(to_rgb(pixels, **options), self.labels, prompts)
        writing.write_picture(path, picture)


def segment_plane(
    pixels: npt.NDArray[Any],
    options: dict[str, Any],
    objects: list[ObjectPrompt],
    *,
    model: str,
    running: Running | None = None,
) -> Result:
    """Load a model, encode a plane, decode its objects.

    Parameters
    ----------
    pixels : numpy.ndarray
        The image.
    options : dict
        Keyword arguments of `to_rgb` for it.
    objects : list of ObjectPrompt
        What to segment, in pixels of the image.
    model : str
        As in `napari_tinysam.load_model`.
    running : Running, optional
        How it runs.

    Raises
    ------
    TinySAMError
        If the model cannot be had, or the image is none for it.
    """
    with explained():
        predictor = (running or Running()).load(model)
        embedding = predictor.encode(pixels, **options)
        labels, scores = _labels(predictor, embedding, objects)
    name = f"model {predictor.name}, {predictor.runtime_name}"
    return Result(labels, scores, objects, name)


def _labels(
    predictor: Predictor, embedding: Embedding, objects: list[ObjectPrompt]
) -> tuple[npt.NDArray[np.uint16 | np.uint32], list[float]]:
    """(Y, X) labels from 1 in the order of the objects, and their scores."""
    dtype = np.uint16 if len(objects) <= np.iinfo(np.uint16).max else np.uint32
    labels = np.zeros(embedding.original_size, dtype)
    scores: list[float] = []
    for start in range(0, len(objects), _BATCH):
        prompts = cli_prompts.to_prompts(objects[start : start + _BATCH])
        masks = predictor.predict(embedding, prompts)
        for row, candidate in enumerate(masks.best):
            boxed = masks.boxed(row, int(candidate)).without_specks()
            draw_mask(labels, boxed, start + row + 1)
            scores.append(float(masks.scores[row, candidate]))
    return labels, scores
