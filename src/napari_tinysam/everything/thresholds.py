"""What a model's scores and logits mean: thresholds that belong to a checkpoint.

Predicted IoU, stability and the height of logits differ from model to model; thresholds made for
SAM ViT-H find nothing with a fine-tuned one.
`tinysam_training.calibration.calibrate` measures them on labelled images and stores them in the
checkpoint's notes, under `NOTE`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.everything.guided import GuidedSettings
from napari_tinysam.everything.labelling import LabelSettings
from napari_tinysam.everything.search import SearchSettings
from napari_tinysam.objects.finding import ObjectSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Key of the notes in a checkpoint's file.
NOTE = "everything"


@dataclass(frozen=True)
class Thresholds:
    """All settings of everything mode that depend on the model.

    Attributes
    ----------
    search : SearchSettings
        Its thresholds are low: what is found is kept, so that the labels' settings can be changed
        without decoding again.
    guided : GuidedSettings
    labels : LabelSettings
        For the objects of the grid.
    guided_labels : LabelSettings
        For the objects of the guided search.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    guided: GuidedSettings = field(default_factory=GuidedSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    guided_labels: LabelSettings = field(default_factory=LabelSettings)

    @classmethod
    def of_sam(cls) -> Thresholds:
        """Those of Segment Anything: for checkpoints that say nothing about themselves."""
        return cls(labels=LabelSettings(confidence=0.88))

    @classmethod
    def uncalibrated(cls) -> Thresholds:
        """Return low ones, for a model of this project's own training that was not calibrated.

        Its scores may end anywhere: too many proposals can be filtered, none cannot.
        """
        return cls(
            search=SearchSettings(
                score_threshold=0.3, stability_threshold=0.3, confident_logit=4.0
            ),
            labels=LabelSettings(confidence=0.4),
            guided_labels=LabelSettings(confidence=0.2),
        )

    @classmethod
    def from_notes(cls, notes: Mapping[str, str]) -> Thresholds:
        """Read them from a checkpoint's notes.

        Parameters
        ----------
        notes : mapping of str to str
            Of `napari_tinysam.checkpoints.LoadedCheckpoint`. Values that cannot be used are left
            at their defaults: a file from elsewhere must not stop the segmentation.
        """
        makers = (notes.get("made_by", ""), notes.get("format", ""))
        ours = any(maker.startswith("napari-tinysam") for maker in makers)
        thresholds = cls.uncalibrated() if ours else cls.of_sam()
        try:
            stored = json.loads(notes[NOTE])
        except (KeyError, ValueError):
            return thresholds
        if not isinstance(stored, dict):
            return thresholds
        for part in fields(cls):
            values = stored.get(part.name)
            if isinstance(values, dict):
                changed = _changed(getattr(thresholds, part.name), values)
                thresholds = replace(thresholds, **{part.name: changed})
        return thresholds

    def to_note(self) -> str:
        """Write all of them, as `from_notes` reads it.

        Also what is as by default: which defaults a reader has, depends on who made the model.
        """
        plain: dict[str, Any] = asdict(self)
        # JSON knows no infinity; "no largest area" is the default everywhere.
        for part in ("labels", "guided_labels"):
            if plain[part]["largest_area"] == float("inf"):
                del plain[part]["largest_area"]
        return json.dumps(plain)


def _changed(settings: Any, values: Mapping[str, Any]) -> Any:
    """Replace those values of a dataclass that it knows and accepts."""
    for key, value in values.items():
        if key not in {one.name for one in fields(settings)}:
            continue
        before = getattr(settings, key)
        if isinstance(before, ObjectSettings) and isinstance(value, dict):
            value = _changed(before, value)
        elif isinstance(before, tuple) and isinstance(value, list):
            value = tuple(value)
        elif type(value) is not type(before) and not (
            isinstance(before, float) and isinstance(value, int)
        ):
            continue
        try:
            settings = replace(settings, **{key: value})
        except (TypeError, ValueError):
            continue
    return settings
