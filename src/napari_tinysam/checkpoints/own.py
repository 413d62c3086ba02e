"""The user's own models: files with a name, and notes of what they were made from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.checkpoints.sniff import kind_of, read_notes
from napari_tinysam.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names another folder for the user's own models.
MODELS_VARIABLE = "NAPARI_TINYSAM_MODELS"

#: Key of the notes in which an adaptation tells about itself.
NOTE = "adapted"


#: Ends the name of the floats beside a model that was rounded to 8 bits.
FLOATS = "-floats"


@dataclass(frozen=True)
class OwnModel:
    """One of the user's own models.

    Attributes
    ----------
    path : Path
    title : str
        As the user called it.
    date : str
        Day on which it was made, "2026-11-28"; "" if that is not known.
    images, objects : int
        It learnt from; 0 if that is not known.
    figures : mapping of str to (float or None, float or None)
        On held-out images, before and after, by the figure's name.
    """

    path: Path
    title: str
    date: str = ""
    images: int = 0
    objects: int = 0
    figures: Mapping[str, tuple[float | None, float | None]] = field(
        default_factory=dict
    )

    @property
    def text(self) -> str:
        """Its name and day, how many images it learnt from, and the figures after."""
        name = f"{self.title} ({self.date})" if self.date else self.title
        known = [_images(self.images)] if self.images else []
        known += [
            f"{figure} {after:.2f}"
            for figure, (_, after) in self.figures.items()
            if after is not None
        ]
        return f"{name}: {', '.join(known)}" if known else name

    @property
    def about(self) -> str:
        """What it learnt from and how good it is, in lines."""
        lines = []
        if self.images:
            images = _images(self.images)
            lines.append(f"Adapted to {images} with {self.objects:,} objects")
        for name, (before, after) in self.figures.items():
            if before is not None and after is not None:
                lines.append(f"{name}: {before:.2f} before, {after:.2f} after")
        return "\n".join([*lines, str(self.path)])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def models_folder() -> Path:
    """Return the folder of the user's own models; it need not exist yet."""
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("napari-tinysam", appauthor=False) / "models"


def own_models(folder: Path | None = None) -> list[OwnModel]:
    """List the user's own models, the newest first.

    Only headers are read. Files that are no models are passed over, and so are the floats of those
    that were rounded to 8 bits.
    """
    root = models_folder() if folder is None else folder
    try:
        paths = sorted(root.glob("*.safetensors"), key=_age)
    except OSError:
        return []
    rounded = {path.with_name(f"{path.stem}{FLOATS}.safetensors") for path in paths}
    paths = [path for path in paths if path not in rounded]
    return [model for path in paths if (model := own_model(path)) is not None]


def own_model(path: Path) -> OwnModel | None:
    """Read what a model file tells about itself; None if it cannot be read."""
    try:
        kind_of(path)
        notes = read_notes(path)
        known: Any = json.loads(notes.get(NOTE, "{}"))
        return OwnModel(
            path,
            str(known.get("title") or path.stem),
            str(known.get("date", "")),
            int(known.get("images", 0)),
            int(known.get("objects", 0)),
            {
                str(name): (before, after)
                for name, (before, after) in dict(known.get("figures", {})).items()
            },
        )
    except (OSError, CheckpointError, ValueError, TypeError, AttributeError):
        return None


def model_path(name: str, folder: Path | None = None) -> Path:
    """Return a new file for a model of this name, without replacing another one."""
    root = models_folder() if folder is None else folder
    stem = re.sub(r"[^\w.-]+", "-", name.strip()).strip("-.") or "model"
    path, number = root / f"{stem}.safetensors", 1
    while path.exists():
        number += 1
        path = root / f"{stem}-{number}.safetensors"
    return path


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
