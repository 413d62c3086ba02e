"""Held-out images in the window: what the models before and after an adaptation find in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.aside import Aside

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel

    from napari_tinysam.ui.session.embedding.loading import Notify

#: Room between images, in pixels.
_GAP = 12

#: Images that are shown.
_SHOWN = 3


class ShownComparison:
    """Shows the layers of a comparison, and takes them away again.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    post : callable
        Runs a callable soon on the session's thread, from any thread.
    notify : callable
        ``notify(level, text)``.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
    ) -> None:
        self._viewer = viewer
        self._notify = notify
        self._aside = Aside(post)
        self._layers: list[Layer] = []
        self._hidden: list[Layer] = []

    @property
    def shown(self) -> bool:
        """Whether the layers are in the viewer."""
        return any(layer in self._viewer.layers for layer in self._layers)

    def toggle(self, folder: Path, on_done: Callable[[], None] = lambda: None) -> None:
        """Show the comparison in a folder, or take it away."""
        if self.shown:
            self.hide()
            on_done()
            return

        def show(sheets: dict[str, npt.NDArray[Any]]) -> None:
            self._show(sheets)
            on_done()

        self._aside.run(
            lambda: read_comparison(folder),
            show,
            lambda error: self._notify(
                "warning", sentence(error, "The comparison cannot be shown")
            ),
        )

    def hide(self) -> None:
        """Take the layers away, and show what was shown before."""
        layers = self._viewer.layers
        for layer in self._layers:
            if layer in layers:
                layers.remove(layer)
        for layer in self._hidden:
            if layer in layers:
                layer.visible = True
        self._layers, self._hidden = [], []
        with suppress(Exception):  # a window without canvas
            self._viewer.fit_to_view()

    def close(self) -> None:
        """Report nothing any more."""
        self._aside.close()

    def _show(self, sheets: dict[str, npt.NDArray[Any]]) -> None:
        viewer = self._viewer
        active = viewer.layers.selection.active
        self._hidden = [layer for layer in viewer.layers if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        picture = Image(sheets["image"], name="before | after", rgb=True)
        found = Labels(sheets["found"], name="found: before | after", opacity=0.5)
        yours = Labels(sheets["yours"], name="yours", opacity=0.8)
        yours.contour = 2
        self._layers = [picture, found, yours]
        for layer in self._layers:
            viewer.add_layer(layer)
        viewer.layers.selection.active = active  # it goes on being segmented
        with suppress(Exception):
            viewer.fit_to_view()


def read_comparison(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the images of a comparison into one sheet: before on the left, after on the right.

    Returns
    -------
    dict
        ``image`` (H, W, 3) uint8; ``found`` and ``yours`` (H, W) int32.

    Raises
    ------
    OSError
        If there is none.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.npz"))[:_SHOWN]:
        with np.load(path) as stored:
            rows.append({name: stored[name] for name in stored.files})
    if not rows:
        raise FileNotFoundError("its files are gone")
    height = sum(row["image"].shape[0] + _GAP for row in rows) - _GAP
    widest = max(row["image"].shape[1] for row in rows)
    image = np.zeros((height, 2 * widest + _GAP, 3), np.uint8)
    found, yours = np.zeros((2, height, 2 * widest + _GAP), np.int32)
    top = 0
    for row in rows:
        h, w = row["image"].shape[:2]
        for left, when in ((0, "before"), (widest + _GAP, "after")):
            part = slice(top, top + h), slice(left, left + w)
            image[part] = row["image"]
            found[part], yours[part] = row[when], row["yours"]
        top += h + _GAP
    return {"image": image, "found": found, "yours": yours}
