"""The report on training data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import FRAME
from tinysam_training.data.fingerprints import combined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from tinysam_training.data.findings import Finding, Severity
    from tinysam_training.labelled_image import ImageEntry

#: Number of findings of a kind that the text lists.
EXAMPLES = 3

_HEADINGS: dict[Severity, str] = {
    "fatal": "Cannot be trained on",
    "error": "Left out",
    "warning": "To look at",
}


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """The facts about an image that remain after the check.

    Parameters
    ----------
    dataset : str
        The set it belongs to.
    diameters : ndarray of float, (N,)
        Of its objects, as circles of the same area, in pixels of the image.
    frame_scale : float
        Pixels of the frame per pixel of the image.
    pixels : str
        Hexadecimal; depends on the image alone, not on its labels.
    """

    dataset: str
    diameters: npt.NDArray[np.float64]
    frame_scale: float
    pixels: str = ""


@dataclass(frozen=True, eq=False)
class DataReport:
    """Usable images, and findings about the others.

    Parameters
    ----------
    findings : tuple of Finding
        Everything found.
    usable_train, usable_val : tuple of ImageEntry
        In the given order.
    train_facts, val_facts : tuple of ImageFacts
        Of each usable image.
    """

    findings: tuple[Finding, ...]
    usable_train: tuple[ImageEntry, ...]
    usable_val: tuple[ImageEntry, ...]
    train_facts: tuple[ImageFacts, ...]
    val_facts: tuple[ImageFacts, ...]

    @property
    def refused(self) -> str | None:
        """Reasons that prevent training, as sentences; None if there are none."""
        return " ".join(f.text for f in self.findings if f.severity == "fatal") or None

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal; depends on all usable images and labels, not on names and order."""
        return combined(
            sorted(entry.fingerprint for entry in self.usable_train),
            sorted(entry.fingerprint for entry in self.usable_val),
        )

    def keyed(self, entries: Iterable[ImageEntry]) -> list[ImageEntry]:
        """Return some of the usable entries with `ImageEntry.pixels`."""
        usable = (*self.usable_train, *self.usable_val)
        facts = (*self.train_facts, *self.val_facts)
        keys = {id(e): f.pixels for e, f in zip(usable, facts, strict=True)}
        return [replace(entry, pixels=keys[id(entry)]) for entry in entries]

    @property
    def objects(self) -> int:
        """Objects of the usable training images."""
        return sum(len(facts.diameters) for facts in self.train_facts)

    def text(self) -> str:
        """Return readable lines: a summary, then findings by severity."""
        lines = [f"Training: {_summary(self.train_facts)}"]
        lines += _sets(self.train_facts)
        lines.append(f"Validation: {_summary(self.val_facts)}")
        lines += _sets(self.val_facts)
        for severity, heading in _HEADINGS.items():
            found = [one for one in self.findings if one.severity == severity]
            if found:
                lines += ["", f"{heading}:", *_grouped(found)]
        return "\n".join(lines)


def _median(facts: Sequence[ImageFacts], in_frame: bool = False) -> float:
    diameters = [
        one.diameters * (one.frame_scale if in_frame else 1.0)
        for one in facts
        if len(one.diameters)
    ]
    return float(np.median(np.concatenate(diameters))) if diameters else float("nan")


def _summary(facts: Sequence[ImageFacts]) -> str:
    if not facts:
        return "no images."
    objects = sum(len(one.diameters) for one in facts)
    return (
        f"{_count(len(facts), 'image')}, {_count(objects, 'object')}, median diameter "
        f"{_median(facts):.0f} px ({_median(facts, in_frame=True):.0f} px in the frame of "
        f"{FRAME})."
    )


def _sets(facts: Sequence[ImageFacts]) -> list[str]:
    """Describe each set in a line, if there are several."""
    names = sorted({one.dataset for one in facts})
    if len(names) < 2:
        return []
    return [
        f"  {name}: {_summary([one for one in facts if one.dataset == name])}"
        for name in names
    ]


def _grouped(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(one.kind for one in findings):
        texts = [one.text for one in findings if one.kind == kind]
        lines.append(f"  {kind} ({len(texts):,}):")
        lines += [f"    {text}" for text in texts[:EXAMPLES]]
        if len(texts) > EXAMPLES:
            lines.append(f"    … and {len(texts) - EXAMPLES:,} more")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
