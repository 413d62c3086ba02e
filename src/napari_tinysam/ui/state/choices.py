"""The user's choices, kept by napari between sessions (Preferences, and napari's own files)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.labels import Overlap

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime.protocol import Precision

_PLUGIN = "napari-tinysam"
_MEGABYTE = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What the dock starts with.

    Parameters
    ----------
    model : str
        Name in the registry, or a file.
    device : str
        "auto", "cpu", "cuda" or "mps".
    precision : {"auto", "f32", "bf16"}
        On a CPU.
    threads : int
        Of the CPU; 0 for as many as suit it.
    hover : bool
        Whether the mask under the cursor is shown.
    opacity : float
        Of the preview, 0–1.
    overlap : Overlap
        What a committed object does to those it overlaps.
    autosave : bool
        Whether labels save themselves.
    provenance : bool
        Whether a file beside saved labels says how each object came to be.
    table : bool
        Whether layers have a table of objects, and the dock says how long one takes.
    memory, disk : int
        Embeddings kept in memory and on disk, in bytes.
    ahead : bool
        Whether planes beside the shown one are encoded ahead.
    journal_days : float
        How long what was not saved can be restored.
    journal_size : int
        Bytes that it may take.
    """

    model: str = "default"
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    hover: bool = True
    opacity: float = 1.0
    overlap: Overlap = Overlap.NEVER
    autosave: bool = False
    provenance: bool = False
    table: bool = False
    memory: int = 1_000 * _MEGABYTE
    disk: int = 2_000 * _MEGABYTE
    ahead: bool = True
    journal_days: float = 14.0
    journal_size: int = 2_000 * _MEGABYTE


def read_choices() -> Choices:
    """Read the choices from napari's settings; the defaults where there are none."""
    settings = _settings()
    if settings is None:
        return Choices()
    return Choices(
        model=str(settings.model.name),
        device=str(_plain(settings.model.device)),
        precision=_plain(settings.model.precision),
        threads=int(settings.model.threads),
        hover=bool(settings.preview.enabled),
        opacity=float(settings.preview.opacity),
        overlap=Overlap(_plain(settings.labels.overlap)),
        autosave=bool(settings.labels.autosave),
        provenance=bool(settings.labels.provenance),
        table=bool(settings.labels.table),
        memory=int(settings.cache.memory) * _MEGABYTE,
        disk=int(settings.cache.disk) * _MEGABYTE,
        ahead=bool(settings.cache.ahead),
        journal_days=float(settings.journal.days),
        journal_size=int(settings.journal.size * 1_000 * _MEGABYTE),
    )


def keep_choice(section: str, name: str, value: object) -> None:
    """Store one choice in napari's settings, under its name in the manifest."""
    settings = _settings()
    if settings is None:
        return
    group = getattr(settings, section)
    if _plain(getattr(group, name)) != value:
        setattr(group, name, value)


def _settings() -> Any | None:
    """Our settings; None where the plugin is not registered or its file is broken."""
    from napari.settings import get_plugin_settings

    try:
        return get_plugin_settings(_PLUGIN)
    except (KeyError, ValueError, OSError) as error:
        _log.info("Settings are not kept: %s", error)
        return None


def _plain(value: Any) -> Any:
    """Value of an enum member, anything else unchanged."""
    return getattr(value, "value", value)
