"""Many image files at once: all objects of each, as labels, a table and a picture.

Each file is finished or untouched. The labels are written last, so that they say whether a file is
done; what they were made with stands in them, and a second run passes over what is done already.
"""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_tinysam.everything import Mode, Segmentation, label_proposals
from napari_tinysam.object_table import ObjectTable
from napari_tinysam.reading import SelectionError, open_planes
from napari_tinysam.stack_files import FileError
from napari_tinysam.writing import replacing, write_picture

if TYPE_CHECKING:
    from napari_tinysam.predictor import Predictor
    from napari_tinysam.reading import PlaneSeries

#: Files of a folder with another suffix are passed over.
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy", ".bmp", ".gif")

#: Ends of the names that are written; files that have them already are no images.
_WRITTEN = ("_labels", "_overlay")

#: What the description of our own label files begins with.
_SIGNATURE = "napari-tinysam auto "


@dataclass(frozen=True)
class BatchSettings:
    """What is done with each file.

    Attributes
    ----------
    mode : str
        See `napari_tinysam.everything.Mode`.
    labels : dict
        Fields of `LabelSettings` that replace the model's own.
    channel : tuple of int, optional
        As in `napari_tinysam.reading.read_plane`.
    overlay : bool
        Whether a picture of the first plane is written.
    """

    mode: Mode = "auto"
    labels: dict[str, float | bool] = field(default_factory=dict)
    channel: tuple[int, ...] | None = None
    overlay: bool = False


@dataclass(frozen=True)
class Job:
    """A file to be segmented, and where its results go.

    Attributes
    ----------
    image : Path
    folder : Path
    stem : str
        Of the results' names.
    """

    image: Path
    folder: Path
    stem: str

    @property
    def labels(self) -> Path:
        """Where the labels go."""
        return self.folder / f"{self.stem}_labels.tif"

    @property
    def table(self) -> Path:
        """Where the table of objects goes."""
        return self.folder / f"{self.stem}_objects.csv"

    @property
    def overlay(self) -> Path:
        """Where the picture goes."""
        return self.folder / f"{self.stem}_overlay.png"


@dataclass
class Outcome:
    """What became of one file.

    Attributes
    ----------
    job : Job
    state : {"written", "there", "foreign", "failed"}
        "there": it was done before, with the same settings. "foreign": labels of this name are
        there that were not made with this command, or were changed since; they are left alone.
    objects, planes : int
    reason : str
        Of a failure, a sentence.
    notes : tuple of str
        What was chosen where the file left a choice.
    """

    job: Job
    state: Literal["written", "there", "foreign", "failed"]
    objects: int = 0
    planes: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())


def find_images(names: Sequence[str]) -> list[Path]:
    """List the images that files, folders and patterns stand for.

    Parameters
    ----------
    names : sequence of str
        A folder stands for the images in it, not for those in its own folders. Patterns such as
        ``*.tif`` are read where no file has that name: not every shell does it.

    Returns
    -------
    list of Path
        Without repetitions, in the order of `names`; within a folder or pattern sorted.

    Raises
    ------
    FileError
        If a name stands for nothing.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if _may_be_image(p)]
            if not inside:
                raise FileError(f"There are no images in the folder {path}.")
        elif path.exists() or not glob.has_magic(name):
            inside = [path]  # whether it is an image is seen when its turn comes
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            inside = [p for p in map(Path, matches) if _may_be_image(p)]
            if not inside:
                raise FileError(f"No image is called {name}.")
        found |= dict.fromkeys(inside)
    return list(found)


def _may_be_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and not _stem(path).endswith(_WRITTEN)
        and path.is_file()
    )


def _stem(path: Path) -> str:
    """Name without suffix, and without ``.ome``."""
    return path.stem.removesuffix(".ome").removesuffix(".OME")


def jobs_for(images: Sequence[Path], folder: Path) -> list[Job]:
    """Name the results of images.

    Images that share a stem keep the rest of their names: ``a.tif`` and ``a.png`` become ``a_tif``
    and ``a_png``; images of one name from different folders are numbered.

    Parameters
    ----------
    images : sequence of Path
    folder : Path
    """
    stems = Counter(_stem(image).casefold() for image in images)
    names = [
        _stem(image)
        if stems[_stem(image).casefold()] == 1
        else image.name.replace(".", "_")
        for image in images
    ]
    again: Counter[str] = Counter()
    doubled = Counter(name.casefold() for name in names)
    jobs = []
    for image, name in zip(images, names, strict=True):
        if doubled[name.casefold()] > 1:
            again[name.casefold()] += 1
            name = f"{name}_{again[name.casefold()]}"
        jobs.append(Job(image, folder, name))
    return jobs


def segment_files(
    jobs: Sequence[Job],
    predictor: Predictor,
    settings: BatchSettings | None = None,
    *,
    on_plane: Callable[[Job, int, int], None] = lambda job, done, total: None,
) -> Iterator[Outcome]:
    """Segment one file after another.

    Parameters
    ----------
    jobs : sequence of Job
    predictor : Predictor
    settings : BatchSettings, optional
    on_plane : callable
        Called with the job, its planes done and their number, after each plane.

    Yields
    ------
    Outcome
        Of each file, as soon as it is known. A file that fails does not stop the others.
    """
    settings = settings or BatchSettings()
    for job in jobs:
        try:
            yield _segment_file(job, predictor, settings, on_plane)
        except (FileError, SelectionError, ValueError, TypeError) as error:
            yield Outcome(job, "failed", reason=_sentence(error))
        except MemoryError:
            yield Outcome(job, "failed", reason="There is not enough memory.")
        except (RuntimeError, OSError) as error:  # a device out of memory, a full disk
            yield Outcome(job, "failed", reason=_sentence(error))


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


def _segment_file(
    job: Job,
    predictor: Predictor,
    settings: BatchSettings,
    on_plane: Callable[[Job, int, int], None],
) -> Outcome:
    made_with = _signature(predictor, settings)
    if job.labels.exists():
        before = _description(job.labels)
        if before == made_with:
            return Outcome(job, "there")
        if not before.startswith(_SIGNATURE):
            return Outcome(job, "foreign")
    if job.image.resolve() in (job.labels.resolve(), job.overlay.resolve()):
        raise FileError(f"The output would replace the image {job.image} itself.")
    planes = open_planes(job.image, settings.channel)
    table = ObjectTable(planes.axes)
    notes: tuple[str, ...] = ()
    labels: list[np.ndarray[Any, Any]] = []
    for number, index in enumerate(planes.indices):
        plane = planes.read(index)
        notes = notes or plane.notes
        embedding = predictor.encode(plane.pixels, **plane.options)
        segmentation = Segmentation(predictor, embedding, settings.mode).run()
        proposals = segmentation.proposals
        wanted = replace(segmentation.settings, **settings.labels)  # type: ignore[arg-type]
        found = label_proposals(proposals, wanted)
        table.add(index, found, proposals, plane.pixels)
        if not number and settings.overlay:
            _write_overlay(job.overlay, plane, found.labels)
        labels.append(found.labels.astype(_dtype(found.labels)))
        on_plane(job, number + 1, len(planes.indices))
    with replacing(job.table) as file:
        file.write(table.to_csv())
    _write_labels(job.labels, labels, planes, made_with)
    return Outcome(job, "written", len(table.rows), len(labels), notes=notes)


def _write_overlay(path: Path, plane: Any, labels: np.ndarray[Any, Any]) -> None:
    from napari_tinysam.image import to_rgb
    from napari_tinysam.overlay import draw_overlay

    write_picture(path, draw_overlay(to_rgb(plane.pixels, **plane.options), labels))


def _dtype(labels: np.ndarray[Any, Any]) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32


def _write_labels(
    path: Path,
    labels: list[np.ndarray[Any, Any]],
    planes: PlaneSeries,
    made_with: str,
) -> None:
    """Write all planes, with the stack's own axes."""
    import tifffile

    stack = np.stack(labels).reshape(*planes.counts, *labels[0].shape)
    with replacing(path) as file:
        tifffile.imwrite(
            file,
            stack,
            compression="zlib",
            photometric="minisblack",
            description=made_with,
            metadata={"axes": f"{planes.axes}YX"},
        )


def _signature(predictor: Predictor, settings: BatchSettings) -> str:
    """Say what labels are made with; equal for equal results."""
    from napari_tinysam import __version__

    content = {
        "version": __version__.partition("+")[0],
        "model": predictor.name,
        "id": predictor.model_id,
        "mode": settings.mode,
        "labels": settings.labels,
        "channel": settings.channel,
    }
    return _SIGNATURE + json.dumps(content, sort_keys=True)


def _description(path: Path) -> str:
    """Read what a TIFF file says about itself; empty for anything else."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return str(tiff.pages.first.description)
    except Exception:  # noqa: BLE001  # a broken file, in whatever way, is not ours
        return ""
