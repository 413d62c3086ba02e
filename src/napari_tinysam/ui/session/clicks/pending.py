"""Commits that wait for their masks, even after another plane or image is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.in_order import InOrder
from napari_tinysam.ui.session.worker import Inference, Lane

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.labels import Overlap
    from napari_tinysam.ui.state.drafts import ObjectDraft
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.seeing import SeenPlane


@dataclass(frozen=True, eq=False)
class PendingCommit:
    """Objects that the user committed before they had masks.

    Parameters
    ----------
    image : napari.layers.Image
    plane : Plane
        Of the image.
    seen : SeenPlane
        How the model sees it.
    drafts : tuple of ObjectDraft
        The drafts to commit.
    levels : tuple of (int, bool)
        Where to begin with each, from `SizesSeen.start`.
    overlap : Overlap
        As chosen then.
    follow : bool
        Whether the objects are followed through the planes.
    """

    image: Image
    plane: Plane
    seen: SeenPlane
    drafts: tuple[ObjectDraft, ...]
    levels: tuple[tuple[int, bool], ...]
    overlap: Overlap
    follow: bool = False


class PendingCommits:
    """The commits that wait for masks; planes that are not shown are decoded in the background.

    Parameters
    ----------
    inference : Inference
        Decodes them, after the jobs that the user waits for.
    on_found : callable
        Called with a commit and the masks of its drafts.
    on_failed : callable
        Called with a commit and the error.
    """

    def __init__(
        self,
        inference: Inference,
        on_found: Callable[[PendingCommit, list[Candidates]], None],
        on_failed: Callable[[PendingCommit, Exception], None],
    ) -> None:
        self._queue = InOrder(inference, Lane.COMMIT)
        self._on_found = on_found
        self._on_failed = on_failed
        self._waiting: list[PendingCommit] = []
        self._begun: set[PendingCommit] = set()

    def of(self, image: Image | None, plane: Plane | None) -> list[PendingCommit]:
        """Return the commits of a plane, in order."""
        return [
            each
            for each in self._waiting
            if each.image is image and _same(each.plane, plane)
        ]

    def of_image(self, image: Image) -> list[PendingCommit]:
        """Return the commits of an image, in order."""
        return [each for each in self._waiting if each.image is image]

    def add(self, commit: PendingCommit) -> None:
        """Add a commit to those that wait."""
        self._waiting.append(commit)

    def done(self, commits: Sequence[PendingCommit]) -> None:
        """Remove commits from those that wait."""
        for commit in commits:
            if commit in self._waiting:
                self._waiting.remove(commit)
            self._begun.discard(commit)

    def decode(
        self, predictor: Predictor | None, shown: Callable[[PendingCommit], bool]
    ) -> None:
        """Decode the commits that wait on planes other than the shown one."""
        if predictor is None:
            return
        for commit in list(self._waiting):
            if commit not in self._begun and not shown(commit):
                self._begun.add(commit)
                self._submit(commit, predictor)

    def clear(self) -> None:
        """Drop all waiting commits."""
        self._waiting.clear()
        self._begun.clear()
        self._queue.clear()

    def _submit(self, commit: PendingCommit, predictor: Predictor) -> None:
        def job() -> list[Candidates] | None:
            if commit not in self._waiting:  # written or taken back meanwhile
                return None
            answers = commit.seen.answer(predictor, commit.drafts, commit.levels)
            return [answer.found for answer in answers]

        def found(candidates: list[Candidates] | None) -> None:
            if candidates is not None and commit in self._waiting:
                self.done([commit])
                self._on_found(commit, candidates)

        def failed(error: Exception) -> None:
            if commit in self._waiting:
                self.done([commit])
                self._on_failed(commit, error)

        self._queue.submit(job, found, failed)


def _same(one: Plane, other: Plane | None) -> bool:
    return other is not None and one.without_channel() == other.without_channel()
