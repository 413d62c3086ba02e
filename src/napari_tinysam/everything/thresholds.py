"""Thresholds of everything mode that belong to a checkpoint.

Predicted IoU, stability and the height of logits differ between models: with thresholds made for
SAM ViT-H, a fine-tuned model finds nothing. `tinysam_training.calibration.calibrate` measures
thresholds on labelled images and stores them in the notes of the checkpoint, under `NOTE`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.everything.choosing import LabelSettings
from napari_tinysam.everything.guided import GuidedSettings
from napari_tinysam.everything.search import SearchSettings
from napari_tinysam.objects.finding import ObjectSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Key in the notes of a checkpoint file.
NOTE = "everything"


@dataclass(frozen=True)
class Thresholds:
    """All settings of everything mode that depend on the model.

    Attributes
    ----------
    search : SearchSettings
        With low thresholds, so that the settings of the labels can change without decoding again.
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

    def labels_in(self, mode: str) -> LabelSettings:
        """Return the settings for labels in a mode, see `napari_tinysam.everything.Mode`."""
        grid = mode in ("hierarchical", "dense")
        return self.labels if grid else self.guided_labels

    @classmethod
    def of_sam(cls) -> Thresholds:
        """Return those of Segment Anything, for checkpoints without notes."""
        return cls(labels=LabelSettings(confidence=0.88))

    @classmethod
    def uncalibrated(cls) -> Thresholds:
        """Return low thresholds, for a model trained with this project but not calibrated.

        Its scores can have any level. Too many proposals can be filtered; missing ones cannot be
        added.
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
            From `napari_tinysam.checkpoints.LoadedCheckpoint`. Unusable values get their defaults,
            because a file from elsewhere must not stop the segmentation.
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
        """Return all of them as a note for `from_notes`.

        Defaults are included, because those of the reader depend on who made the model.
        """
        plain: dict[str, Any] = asdict(self)
        # JSON has no infinity; "no largest area" is the default everywhere.
        for part in ("labels", "guided_labels"):
            if plain[part]["largest_area"] == float("inf"):
                del plain[part]["largest_area"]
        return json.dumps(plain)


def _changed(settings: Any, values: Mapping[str, Any]) -> Any:
    """Replace the values that a dataclass knows and accepts."""
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
