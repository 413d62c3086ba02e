"""What a batch does with each file, and what it reports of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job, LabelsForm
    from napari_tinysam.everything import Mode, Tiles


@dataclass(frozen=True)
class BatchSettings:
    """How each file is segmented, and what is written.

    Attributes
    ----------
    mode : str
        See `napari_tinysam.everything.Mode`.
    labels : dict
        Fields of `LabelSettings` that replace the model's own.
    channel : tuple of int, optional
        As in `napari_tinysam.files.planes.read_plane`.
    overlay : bool
        Whether a picture of the first plane is written, with the objects outlined.
    series : int, optional
        As in `napari_tinysam.files.planes.read_plane`.
    also : tuple of str
        Names of `napari_tinysam.batch.forms.FORMS` to write as well.
    table_form : str
        Name of `napari_tinysam.batch.tables.TABLE_FORMS`.
    labels_form : {"auto", "tiff", "ome-zarr", "inside"}
        As of `Job`; "auto" is TIFF for planes of up to 4096² pixels, OME-Zarr for larger ones.
    tiles : {"auto", "off"} or int
        See `napari_tinysam.everything.Tiles`.
    link : {"z", "t"}, optional
        Whether objects of planes become objects of the stack, or tracks of the movie.
    least_planes : int, optional
        Linked objects that show in fewer planes are left out; without it 2 in depth, 1 in time.
    """

    mode: Mode = "auto"
    labels: dict[str, float | bool] = field(default_factory=dict)
    channel: tuple[int, ...] | None = None
    overlay: bool = False
    series: int | None = None
    also: tuple[str, ...] = ()
    labels_form: LabelsForm | Literal["auto"] = "auto"
    tiles: Tiles = "auto"
    table_form: str = "csv"
    link: Literal["z", "t"] | None = None
    least_planes: int | None = None


@dataclass
class FileOutcome:
    """The outcome of one file.

    Attributes
    ----------
    job : Job
    state : {"written", "there", "completed", "foreign", "failed"}
        "there": it was done before, with the same settings. "completed": likewise, and a missing
        table, picture or other form was made from the labels. "foreign": a label file of this name
        is left alone, because this command did not make it or somebody changed it.
    objects, planes : int
        How many were written.
    reason : str
        Why it failed, in one sentence.
    notes : tuple of str
        Choices that were made where the file left one open.
    """

    job: Job
    state: Literal["written", "there", "completed", "foreign", "failed"]
    objects: int = 0
    planes: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())
