"""The lists of images on disk: a later start goes on at the same place."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import write_text
from napari_tinysam.ui.state.image_list import ImageList

#: Names another folder for the lists.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_LISTS"

#: So many lists are kept; those that were not used for longest go first.
_KEPT = 100


def lists_folder() -> Path:
    """Return the folder of the lists; it need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_state_path

    return user_state_path("napari-tinysam", appauthor=False) / "lists"


class KeptLists:
    """Writes lists of images and finds them again by the folders and files they were made of.

    Parameters
    ----------
    folder : Path, optional
        `lists_folder` if not given. Made when it is first written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = lists_folder() if folder is None else folder

    def keep(self, images: ImageList) -> None:
        """Write a list in place of the earlier one of the same sources.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        if not images.sources:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.folder} cannot be made.") from error
        content = {**images.to_json(), "time": time.time()}
        write_text(self._file(images.sources), json.dumps(content, indent=1))
        self._sweep()

    def find(self, sources: tuple[Path, ...]) -> ImageList | None:
        """Return the list of these folders and files; None if there is none, or it is damaged."""
        return _read(self._file(sources))

    def last(self) -> ImageList | None:
        """Return the list that was used last and still has images; None if there is none."""
        for file in self._files():
            images = _read(file)
            if images is not None and any(p.exists() for p in images.sources):
                return images
        return None

    def forget(self, images: ImageList) -> None:
        """Remove a list; images and labels stay."""
        with suppress(OSError):
            self._file(images.sources).unlink(missing_ok=True)

    def _file(self, sources: tuple[Path, ...]) -> Path:
        names = "\n".join(sorted(str(path) for path in sources))
        return (
            self.folder / f"{blake2b(names.encode(), digest_size=10).hexdigest()}.json"
        )

    def _files(self) -> list[Path]:
        """Files of lists, the newest first."""
        found: list[tuple[float, Path]] = []
        with suppress(OSError):
            for path in self.folder.glob("*.json"):
                with suppress(OSError):  # another window removed it
                    found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _sweep(self) -> None:
        for path in self._files()[_KEPT:]:
            with suppress(OSError):
                path.unlink()


def _read(file: Path) -> ImageList | None:
    try:
        content = json.loads(file.read_text("utf-8"))
        return ImageList.from_json(content)
    except (OSError, ValueError, TypeError, FileError):
        return None
