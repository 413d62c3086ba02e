"""From the best moment of a run to the file that is installed: rounded, noted, copied."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints.own import FLOATS, NOTE, model_path
from napari_tinysam.errors import TinySAMError, sentence
from napari_tinysam.files.atomic import unfinished
from tinysam_training.data.spacing import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinysam_training.commands.adaptation import Adaptation, Order
    from tinysam_training.labelled_image import ImageEntry

#: Images for rounding to 8 bits.
_ROUNDED_WITH = 8


class NotInstalledError(TinySAMError):
    """The finished model cannot be written where it should go."""


def make(
    adaptation: Adaptation, entries: Sequence[ImageEntry], *, rounded: bool
) -> None:
    """Make `Adaptation.made` of the best moment, which stays as it is.

    Parameters
    ----------
    adaptation : Adaptation
    entries : sequence of ImageEntry
        For rounding.
    rounded : bool
        To 8 bits; `Adaptation.floats` is what was rounded. Otherwise to 16.
    """
    loaded = checkpoints.load(adaptation.model)
    notes: dict[str, str] = dict(loaded.notes) | {"made_by": "napari-tinysam adapt"}
    notes.pop("format", None)
    floats = adaptation.floats if rounded else adaptation.made
    checkpoints.save(loaded.model, floats, notes, half=True)
    if not rounded:
        return
    from tinysam_training.quantize.run import quantize

    origin = checkpoints.load(floats)
    made = quantize(origin.model, evenly_spaced(entries, _ROUNDED_WITH))
    notes["quantized_from"] = f"{floats.name} {origin.fingerprint}"
    checkpoints.save(made.model, adaptation.made, notes)


def note(adaptation: Adaptation, order: Order, figures: Mapping[str, object]) -> None:
    """Write into the made model what it is."""
    about = {
        "title": order.name,
        "date": date.today().isoformat(),
        "images": order.images,
        "objects": order.objects,
        "figures": figures,
    }
    loaded = checkpoints.load(adaptation.made)
    notes: dict[str, str] = dict(loaded.notes) | {NOTE: json.dumps(about)}
    notes.pop("format", None)
    half = checkpoints.is_half(adaptation.made)
    checkpoints.save(loaded.model, adaptation.made, notes, half=half)


def install(adaptation: Adaptation, order: Order) -> Path:
    """Copy the made model, and its floats if it was rounded, to the user's own models.

    Raises
    ------
    NotInstalledError
        If it cannot be written there. The model is still in the adaptation.
    """
    wanted = Path(order.model)
    try:
        path = model_path(wanted.stem, wanted.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        pairs = [(adaptation.made, path)]
        if adaptation.floats.exists():  # first: the model is listed when all is there
            beside = path.with_name(f"{path.stem}{FLOATS}.safetensors")
            pairs.insert(0, (adaptation.floats, beside))
        for source, target in pairs:
            with unfinished(target) as file:
                shutil.copyfile(source, file)
    except OSError as error:
        what = f"The new model is ready, but {wanted.parent} cannot be written to"
        raise NotInstalledError(
            f"{sentence(error, what)} Resume when it can, or choose another folder."
        ) from error
    return path
