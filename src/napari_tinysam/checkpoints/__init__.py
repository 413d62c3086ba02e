"""Checkpoints: the known ones, where they come from, and how they are loaded and saved.

The bundled models are installed with the package. The others are downloaded on first use into the
user's data folder, or, on machines without a network, read from a folder that the environment
variable ``NAPARI_TINYSAM_WEIGHTS`` names. Importing this package loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam.checkpoints.downloads import (
    Progress,
    check_unchanged,
    download,
    file_sha256,
)
from napari_tinysam.checkpoints.read import read_model
from napari_tinysam.checkpoints.registry import (
    ENVIRONMENT_VARIABLE,
    REGISTRY,
    Checkpoint,
    find,
    registered,
    unknown,
    weights_folder,
)
from napari_tinysam.checkpoints.sniff import (
    holds_eight_bits,
    is_half,
    kind_of,
    read_notes,
)
from napari_tinysam.checkpoints.write import save
from napari_tinysam.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tinysam.model import SegmentAnything

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "REGISTRY",
    "Checkpoint",
    "CheckpointError",
    "LoadedCheckpoint",
    "LocatedCheckpoint",
    "fetch",
    "is_available_offline",
    "is_half",
    "load",
    "locate",
    "path_of",
    "read_notes",
    "save",
    "weights_folder",
]


@dataclass(frozen=True)
class LocatedCheckpoint:
    """A weight file that has not been read yet.

    Attributes
    ----------
    name : str
        Name in the registry, or of the file.
    path : Path
        The file.
    fingerprint : str
        16 hexadecimal digits that change with the file's content.
    notes : mapping of str to str
        Notes in the file: who made it, from what. Empty for .pth files.
    """

    name: str
    path: Path
    fingerprint: str
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Whether the file holds a quantized model, according to its notes."""
        return holds_eight_bits(self.notes)


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint(LocatedCheckpoint):
    """A model, and where it comes from.

    Attributes
    ----------
    model : SegmentAnything
        On the CPU, float32, in eval mode.
    """

    model: SegmentAnything = field(kw_only=True)


def locate(
    name_or_path: str | Path = "default", *, progress: Progress | None = None
) -> LocatedCheckpoint:
    """Find a weight file, download it if necessary, and take its fingerprint.

    Does not load torch. Whether the file really holds weights is only known after `load`.

    Parameters
    ----------
    name_or_path, progress
        As for `load`.

    Raises
    ------
    CheckpointError
        If the file is not available, not the published one, or not a weight file.
    """
    path = path_of(name_or_path, progress=progress)
    fingerprint = file_sha256(path)
    name = path.name
    if isinstance(name_or_path, str) and name_or_path in REGISTRY:
        name = REGISTRY[name_or_path].name
        check_unchanged(path, fingerprint, REGISTRY[name_or_path])
    return LocatedCheckpoint(name, path, fingerprint[:16], read_notes(path))


def path_of(
    name_or_path: str | Path = "default", *, progress: Progress | None = None
) -> Path:
    """Find a weight file; download it if necessary.

    Parameters
    ----------
    name_or_path, progress
        As for `load`.

    Raises
    ------
    CheckpointError
        If the file is not available, or not a weight file.
    """
    if isinstance(name_or_path, str) and name_or_path in REGISTRY:
        return fetch(name_or_path, progress=progress)
    path = Path(name_or_path).expanduser()
    if not path.exists() and path.name == str(name_or_path) and not path.suffix:
        raise unknown(path.name)
    kind_of(path)
    return path


def load(
    source: str | Path | LocatedCheckpoint = "default",
    *,
    progress: Progress | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint; download it if necessary.

    Parameters
    ----------
    source : str, Path or LocatedCheckpoint
        A name of `REGISTRY`, a weight file with official tensor names, or the result of `locate`.
    progress : callable, optional
        Called with the bytes downloaded so far and in total (0 if not known). An exception that it
        raises ends the download and is passed on.

    Raises
    ------
    CheckpointError
        If the file is not available, not the published one, or not a weight file.
    """
    located = source
    if not isinstance(located, LocatedCheckpoint):
        located = locate(located, progress=progress)
    return LoadedCheckpoint(**vars(located), model=read_model(located.path))


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Find the file of a checkpoint, or download it.

    Parameters
    ----------
    name : str
        A name of `REGISTRY`.
    progress : callable, optional
        As for `load`.

    Raises
    ------
    CheckpointError
        If it is not here and cannot be downloaded. The message gives the address, and the folder
        where to put it by hand.
    """
    checkpoint = registered(name)
    found = find(checkpoint)
    if found is not None:
        return found
    if checkpoint.url is None:
        raise CheckpointError(
            f"The bundled model {checkpoint.filename} is missing from this installation; "
            "install napari-tinysam again."
        )
    return download(checkpoint, checkpoint.url, weights_folder(), progress)


def is_available_offline(name: str) -> bool:
    """Whether a checkpoint of `REGISTRY` is already on this machine."""
    return find(registered(name)) is not None
