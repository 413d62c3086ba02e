"""Many image files at once: all objects of each, as labels, a table and a picture.

Each file is finished or untouched. The labels are written last, so that they say whether a file is
done; what they were made of, and with which settings, stands in them, and a second run passes over
what is done already, whatever the file is called. What else is missing is made of the labels.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from napari_tinysam.batch.tables import ObjectTable
from napari_tinysam.errors import FileError, TinySAMError, explained
from napari_tinysam.everything import Mode, Segmentation, label_proposals
from napari_tinysam.files.names import is_result
from napari_tinysam.files.planes import open_planes
from napari_tinysam.files.writing import replacing, write_label_stack, write_picture

if TYPE_CHECKING:
    from napari_tinysam.files.planes import PlaneSeries
    from napari_tinysam.inference.predictor import Predictor

#: Files of a folder with another suffix are passed over.
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy", ".bmp", ".gif")

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
        As in `napari_tinysam.files.planes.read_plane`.
    overlay : bool
        Whether a picture of the first plane is written.
    series : int, optional
        As in `napari_tinysam.files.planes.read_plane`.
    """

    mode: Mode = "auto"
    labels: dict[str, float | bool] = field(default_factory=dict)
    channel: tuple[int, ...] | None = None
    overlay: bool = False
    series: int | None = None


class FoundImages(NamedTuple):
    """Files to be segmented.

    Attributes
    ----------
    images : list of Path
    passed_over : list of Path
        What is called like labels or another result of one of them.
    """

    images: list[Path]
    passed_over: list[Path]


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
    state : {"written", "there", "completed", "foreign", "failed"}
        "there": it was done before, with the same settings. "completed": so it was, and what was
        missing beside the labels was made of them. "foreign": labels of this name are there that
        were not made with this command, or were changed since; they are left alone.
    objects, planes : int
    reason : str
        Of a failure, a sentence.
    notes : tuple of str
        What was chosen where the file left a choice.
    """

    job: Job
    state: Literal["written", "there", "completed", "foreign", "failed"]
    objects: int = 0
    planes: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())


def find_images(names: Sequence[str]) -> FoundImages:
    """List the images that files, folders and patterns stand for.

    Parameters
    ----------
    names : sequence of str
        A folder stands for the images in it, not for those in its own folders. Patterns such as
        ``*.tif`` are read where no file has that name: not every shell does it. What is called like
        labels or an overlay of another file is passed over; a file that is named itself only where
        that other file is named, too.

    Returns
    -------
    FoundImages
        Without repetitions, in the order of `names`; within a folder or pattern sorted.

    Raises
    ------
    FileError
        If a name stands for nothing.
    """
    found: dict[Path, None] = {}
    passed: dict[Path, None] = {}
    named: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = _images_of(sorted(path.iterdir()), passed)
            if not inside:
                raise FileError(f"There are no images in the folder {path}.")
        elif path.exists() or not glob.has_magic(name):
            inside = [path]  # whether it is an image is seen when its turn comes
            named.append(path)
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            inside = _images_of([Path(match) for match in matches], passed)
            if not inside:
                raise FileError(f"No image is called {name}.")
        found |= dict.fromkeys(inside)
    for path in named:
        beside = frozenset(_stem(p) for p in named if p.parent == path.parent)
        if is_result(_stem(path), beside - {_stem(path)}) and len(named) > 1:
            passed[path] = None
    return FoundImages([p for p in found if p not in passed], list(passed))


def _images_of(files: Sequence[Path], passed: dict[Path, None]) -> list[Path]:
    """Files that may be images; what is called a result of one goes to `passed`."""
    candidates = [path for path in files if _may_be_image(path)]
    beside: dict[Path, set[str]] = {}
    for path in candidates:
        beside.setdefault(path.parent, set()).add(_stem(path))
    images = []
    for path in candidates:
        others = frozenset(beside[path.parent] - {_stem(path)})
        if is_result(_stem(path), others):
            passed[path] = None
        else:
            images.append(path)
    return images


def _may_be_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
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
    stems = [job.stem.casefold() for job in jobs]
    for job in jobs:
        others = frozenset(stem for stem in stems if stem != job.stem.casefold())
        try:
            with explained():
                outcome = _segment_file(job, predictor, settings, others, on_plane)
            yield outcome
        except TinySAMError as error:
            yield Outcome(job, "failed", reason=str(error))


def _segment_file(
    job: Job,
    predictor: Predictor,
    settings: BatchSettings,
    others: frozenset[str],
    on_plane: Callable[[Job, int, int], None],
) -> Outcome:
    wanted = _Made(_settings(predictor, settings), _content(job.image))
    job, state, notes = _placed(job, wanted, others)
    if state == "foreign":
        return Outcome(job, "foreign")
    if job.image.resolve() in (job.labels.resolve(), job.overlay.resolve()):
        raise FileError(f"The output would replace the image {job.image} itself.")
    if state == "there":
        made = _completed(job, settings)
        return Outcome(job, "completed" if made else "there", notes=notes)
    planes = open_planes(job.image, settings.channel, settings.series)
    table = ObjectTable(planes.axes)
    said: tuple[str, ...] = ()
    labels: list[np.ndarray[Any, Any]] = []
    for number, index in enumerate(planes.indices):
        plane = planes.read(index)
        said = said or plane.notes
        embedding = predictor.encode(plane.pixels, **plane.options)
        segmentation = Segmentation(predictor, embedding, settings.mode).run()
        proposals = segmentation.proposals
        how = replace(segmentation.settings, **settings.labels)  # type: ignore[arg-type]
        found = label_proposals(proposals, how)
        table.add(index, found, proposals, plane.pixels)
        if not number and settings.overlay:
            _write_overlay(job.overlay, plane, found.labels)
        labels.append(found.labels.astype(_dtype(found.labels)))
        on_plane(job, number + 1, len(planes.indices))
    with replacing(job.table) as file:
        file.write(table.to_csv())
    _write_labels(job.labels, labels, planes, wanted.described(job))
    notes = (*notes, *planes.notes, *said)
    return Outcome(job, "written", len(table.rows), len(labels), notes=notes)


def _completed(job: Job, settings: BatchSettings) -> bool:
    """Make what is missing beside labels that are there; returns whether something was."""
    without_table = not job.table.exists()
    without_overlay = settings.overlay and not job.overlay.exists()
    if not without_table and not without_overlay:
        return False
    import tifffile

    planes = open_planes(job.image, settings.channel, settings.series)
    labels = tifffile.imread(job.labels)
    labels = labels.reshape(-1, *labels.shape[-2:])
    if len(labels) != len(planes.indices):
        raise FileError(f"{job.labels} does not fit {job.image}; move it away.")
    if without_overlay:
        first = planes.read(planes.indices[0])
        _write_overlay(job.overlay, first, labels[0].astype(np.int32))
    if without_table:
        table = ObjectTable(planes.axes)
        for index, plane in zip(planes.indices, labels, strict=True):
            table.add_labels(index, plane, planes.read(index).pixels)
        with replacing(job.table) as file:
            file.write(table.to_csv())
    return True


def _write_overlay(path: Path, plane: Any, labels: np.ndarray[Any, Any]) -> None:
    from napari_tinysam.files.overlay import draw_overlay
    from napari_tinysam.image import to_rgb

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
    stack = np.stack(labels).reshape(*planes.counts, *labels[0].shape)
    write_label_stack(path, stack, f"{planes.axes}YX", made_with)


class _Made(NamedTuple):
    """What labels are made with, and of.

    Attributes
    ----------
    settings : dict
        Equal for equal results of one image.
    content : str
        Hash of the image's file.
    image : str
        Where it is, seen from the folder of the labels.
    """

    settings: dict[str, Any]
    content: str
    image: str = ""

    def described(self, job: Job) -> str:
        """Return what is written into labels."""
        known = {"settings": self.settings, "content": self.content}
        return _SIGNATURE + json.dumps(
            {**known, "image": _address(job)}, sort_keys=True
        )

    @classmethod
    def of(cls, path: Path) -> _Made | None:
        """Read it from labels; None if they are not from this command, or changed since."""
        text = _description(path)
        if not text.startswith(_SIGNATURE):
            return None
        try:
            found = json.loads(text[len(_SIGNATURE) :])
            return cls(found["settings"], str(found["content"]), str(found["image"]))
        except (ValueError, KeyError, TypeError):
            return cls({}, "")  # of a version that did not note it


def _placed(
    job: Job, wanted: _Made, others: frozenset[str]
) -> tuple[Job, Literal["new", "there", "foreign"], tuple[str, ...]]:
    """Find the place of a file's results, and whether they are there.

    Labels that this command made of another image of the same name keep theirs: the new ones get a
    number.
    """
    notes: tuple[str, ...] = ()
    for number in itertools.count(1):
        here = job if number == 1 else replace(job, stem=f"{job.stem}_{number}")
        if number > 1 and here.stem.casefold() in others:
            continue
        if not here.labels.exists():
            return here, "new", notes
        made = _Made.of(here.labels)
        if made is None:
            if number == 1:
                return here, "foreign", ()
            continue
        if made.content == wanted.content:
            same = made.settings == wanted.settings
            return here, "there" if same else "new", notes
        # Exported again, or made before images were noted.
        if made.image in ("", _address(here)):
            return here, "new", notes
        if not notes:
            notes = (
                f"{here.labels} is of another image, {made.image}; the results of "
                f"{job.image} get a number.",
            )
    raise AssertionError("there is always one more number")


def _address(job: Job) -> str:
    """Where the image is, seen from the folder of the labels."""
    image, folder = job.image.resolve(), job.folder.resolve()
    try:
        return Path(os.path.relpath(image, folder)).as_posix()
    except ValueError:  # on another drive
        return image.as_posix()


def _content(path: Path) -> str:
    """Hash a file; empty where it cannot be read, which is said when it is opened."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (OSError, ValueError):
        return ""


def _settings(predictor: Predictor, settings: BatchSettings) -> dict[str, Any]:
    """Say what labels are made with; equal for equal results."""
    from napari_tinysam import __version__

    return {
        "version": __version__.partition("+")[0],
        "model": predictor.name,
        "id": predictor.model_id,
        "mode": settings.mode,
        "labels": settings.labels,
        "channel": None if settings.channel is None else list(settings.channel),
        "series": settings.series or 0,
    }


def _description(path: Path) -> str:
    """Read what a TIFF file says about itself; empty for anything else."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return str(tiff.pages.first.description)
    except Exception:  # noqa: BLE001  # a broken file, in whatever way, is not ours
        return ""
