"""Findings about training data, and lists of entries that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, cast

from tinysam_training.labelled_image import ImageEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

#: warning: the image is used anyway; error: it is left out; fatal: training is refused.
Severity = Literal["warning", "error", "fatal"]


@dataclass(frozen=True)
class Finding:
    """One thing found about one file or image.

    Parameters
    ----------
    severity : {"warning", "error", "fatal"}
        Its consequence.
    kind : str
        Heading for the user; groups findings of the same kind.
    text : str
        A sentence that names the file or image.
    """

    severity: Severity
    kind: str
    text: str


class FoundEntries(list[ImageEntry]):
    """Entries, and findings about files that did not become entries.

    Parameters
    ----------
    entries : iterable of ImageEntry
        The images.
    findings : iterable of Finding
        Images without labels, labels without image, and the like. `check_data` reports them.
    """

    def __init__(
        self, entries: Iterable[ImageEntry] = (), findings: Iterable[Finding] = ()
    ) -> None:
        super().__init__(entries)
        self.findings = list(findings)

    def __add__(self, other: list[ImageEntry]) -> FoundEntries:  # type: ignore[override]
        return FoundEntries([*self, *other], [*self.findings, *findings_of(other)])

    def __iadd__(self, other: Iterable[ImageEntry]) -> Self:  # type: ignore[override]
        self.findings.extend(findings_of(other))
        self.extend(other)
        return self


def findings_of(entries: object) -> list[Finding]:
    """Return the findings in a list of entries; none for an ordinary list."""
    return cast("list[Finding]", getattr(entries, "findings", []))
