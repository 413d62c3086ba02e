"""Points and boxes as tokens of the mask decoder, in numpy.

Segment Anything's prompt encoder (Kirillov et al., 2023, appendix A): random Fourier features of
the position, plus a learnt vector of the kind of prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import CELL

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """The learnt vectors of the prompt encoder for points and boxes.

    Parameters
    ----------
    frequencies : numpy.ndarray
        (2, 128) float32, of x and y.
    kinds : numpy.ndarray
        (5, 256) float32: negative point, positive point, first and second corner of a box, and the
        token that follows points without a box.
    frame_size : int
        Side of the model's frame in pixels.
    """

    frequencies: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.float32]
    frame_size: int

    def tokens(
        self,
        count: int,
        points: npt.NDArray[np.float32] | None,
        labels: npt.NDArray[np.int32] | None,
        boxes: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        """Embed prompts.

        Parameters
        ----------
        count : int
            Objects, N.
        points : numpy.ndarray or None
            (N, P, 2), (x, y) in pixels of the frame.
        labels : numpy.ndarray or None
            (N, P), 1 or 0.
        boxes : numpy.ndarray or None
            (N, 4), (x0, y0, x1, y1) in pixels of the frame.

        Returns
        -------
        numpy.ndarray
            (N, T, 256) float32; T is P, and 2 more for a box or 1 more for points without.
        """
        parts = [np.zeros((count, 0, self.kinds.shape[1]), np.float32)]
        if points is not None and labels is not None:
            kinds = np.where((labels == 1)[..., None], self.kinds[1], self.kinds[0])
            parts.append(self._placed(points) + kinds)
            if boxes is None:
                parts.append(np.tile(self.kinds[4], (count, 1, 1)))
        if boxes is not None:
            parts.append(self._placed(boxes.reshape(-1, 2, 2)) + self.kinds[2:4])
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def positions(self) -> npt.NDArray[np.float32]:
        """Encode the centres of the frame's cells: (P, 256), row by row."""
        centres = np.arange(self.frame_size // CELL, dtype=np.float32) * CELL + (
            np.float32(CELL - 1) / 2
        )
        y, x = np.meshgrid(centres, centres, indexing="ij")
        return self._placed(np.stack([x.ravel(), y.ravel()], axis=-1))

    def _placed(self, xy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(…, 2) positions as (…, 256) Fourier features."""
        # 0.5: from the pixel's centre to its place between 0 and the frame's side.
        unit = (np.asarray(xy, np.float32) + np.float32(0.5)) / np.float32(
            self.frame_size
        )
        angle = np.float32(2 * np.pi) * ((2 * unit - 1) @ self.frequencies)
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1, dtype=np.float32)
