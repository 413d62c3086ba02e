"""The three masks that the model proposes for one object, ordered from small to large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.inference.drafts import to_prompts

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.drafts import ObjectDraft
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask, Upscaler


class Candidates:
    """Three masks of one object.

    Parameters
    ----------
    logits : numpy.ndarray
        (3, 256, 256) float32.
    scores : numpy.ndarray
        (3,) float32, predicted IoU.
    upscaler : Upscaler
        To the pixels of the look.
    look : Look
        What the model saw.
    shape : (int, int)
        Height and width of the plane.
    """

    def __init__(
        self,
        logits: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        upscaler: Upscaler,
        look: Look,
        shape: tuple[int, int],
    ) -> None:
        order = np.argsort((logits > 0).sum(axis=(1, 2)), kind="stable")
        self._logits = logits[order]
        self._upscaler = upscaler
        #: What the model saw.
        self.look, self._shape = look, shape
        self._boxed: dict[int, BoxedMask] = {}
        #: (3,) predicted IoU, small mask to large.
        self.scores = tuple(float(score) for score in scores[order])
        #: Which mask has the highest score.
        self.best = int(np.argmax(self.scores))

    def mask(self, candidate: int | None = None) -> BoxedMask:
        """Return one mask in pixels of the plane, the best by score if none is chosen."""
        if candidate is None:
            candidate = self.best
        if candidate not in self._boxed:
            boxed = self._upscaler.boxed(self._logits[candidate])
            placed = self.look.placed(boxed.without_specks(), self._shape)
            self._boxed[candidate] = placed
        return self._boxed[candidate]

    def confirmed(self, embedding: Embedding, candidate: int | None = None) -> float:
        """Tell how far a mask can be believed, 0–1: see `inference.pyramid.SeenObject`."""
        if candidate is None:
            candidate = self.best
        found = embedding.confirmation(self._logits[candidate])
        return self.scores[candidate] if found is None else found


def predict(
    predictor: Predictor,
    embedding: Embedding,
    drafts: Sequence[ObjectDraft],
    look: Look,
    shape: tuple[int, int],
) -> list[Candidates]:
    """Ask the model about drafts; belongs in the inference thread.

    The masks that will be shown are computed here too, so that the GUI thread has only to draw.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the look.
    drafts : sequence of ObjectDraft
        In pixels of the look.
    look : Look
    shape : (int, int)
        Height and width of the plane.
    """
    masks = predictor.predict(embedding, to_prompts(drafts, embedding))
    found = []
    for i, draft in enumerate(drafts):
        candidates = Candidates(
            masks.logits[i], masks.scores[i], masks.upscaler, look, shape
        )
        candidates.mask(draft.candidate)
        found.append(candidates)
    return found
