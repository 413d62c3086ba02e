"""The subject of segmentation: one image, and its shown plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_tinysam.ui.state.drafts import PlaneDrafts

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.layers import Image

    from napari_tinysam.ui.state.drafts import Box
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.images import ImageState, Memory
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Proposed


class Subject:
    """The one place that knows the image and the shown plane.

    Parameters
    ----------
    memory : Memory
        The state of each image.

    Attributes
    ----------
    image : napari.layers.Image or None
    plane : Plane or None
        Of the image; None where the viewer shows no plane of it.
    key : hashable
        Tells the embedding of the plane from all others; None without a plane.
    cursor : (float, float) or None
        (x, y) of the mouse in pixels of the plane; None outside it.
    drafts_changed, changed : Signal
        Emitted when the drafts of the plane change; when anything that the dock shows changes.
    """

    drafts_changed = Signal()
    changed = Signal()

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.image: Image | None = None
        self.plane: Plane | None = None
        self.key: Hashable = None
        self.cursor: tuple[float, float] | None = None

    def show(self, plane: Plane | None, key: Hashable) -> None:
        """Take another plane of the image, or none."""
        self.plane, self.key, self.cursor = plane, key, None

    @property
    def here(self) -> tuple[Image, Plane] | None:
        """The image and the plane; None unless there are both."""
        if self.image is None or self.plane is None:
            return None
        return self.image, self.plane

    @property
    def state(self) -> ImageState:
        """The state of the image.

        Raises
        ------
        RuntimeError
            If there is no image.
        """
        if self.image is None:
            raise RuntimeError("No image is chosen.")
        return self.memory.state_of(self.image)

    @property
    def drafts(self) -> PlaneDrafts:
        """The drafts of the plane."""
        return PlaneDrafts() if self.plane is None else self.state.drafts(self.plane)

    def change_drafts(
        self, text: str, drafts: PlaneDrafts, edit: Edit | None = None
    ) -> None:
        """Replace the drafts of the plane, if there is one, as `ImageState.change_drafts` does."""
        if self.plane is not None:
            self.state.change_drafts(text, self.plane, drafts, edit)
            self.drafts_changed.emit()

    @property
    def proposed(self) -> Proposed | None:
        """The proposals of the plane."""
        return None if self.plane is None else self.state.proposed(self.plane)

    @property
    def last_box(self) -> Box | None:
        """The box that the user drew last on the plane."""
        boxes = [draft.box for draft in self.drafts.filled if draft.box is not None]
        return boxes[-1] if boxes else None

    def xy(self, position: Any) -> tuple[float, float] | None:
        """Map a world position, (ndim,), to (x, y) on the plane; None outside it."""
        if self.image is None or self.plane is None:
            return None
        xy = self.plane.xy_plane(self.image.world_to_data(position))
        return xy if self.plane.contains(xy) else None
