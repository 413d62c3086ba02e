"""The subject of segmentation: one image, and its shown plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_tinysam.inference.looks import Look
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.history import UNTOLD, Deed
from napari_tinysam.ui.state.region import in_view

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.layers import Image

    from napari_tinysam.ui.state.drafts import Box, ObjectDraft
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.images import ImageState, Memory
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Proposed
    from napari_tinysam.ui.state.seeing import SeenPlane


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
    seen : SeenPlane or None
        How the model sees the plane.
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
        self.seen: SeenPlane | None = None
        self.cursor: tuple[float, float] | None = None

    def show(self, plane: Plane | None, seen: SeenPlane | None) -> None:
        """Take another plane of the image, or none.

        In a stack, the mouse is where it was: keys act under it also if it has not moved since.
        """
        frames = [(each.axes, each.shape) for each in (self.plane, plane) if each]
        if len(frames) < 2 or frames[0] != frames[1]:
            self.cursor = None
        self.plane, self.seen = plane, seen

    @property
    def key(self) -> Hashable:
        """Tells the plane, and how it is seen, from all others; None without a plane."""
        return None if self.seen is None else self.seen.key

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
        self,
        text: str,
        drafts: PlaneDrafts,
        edit: Edit | None = None,
        deed: Deed = UNTOLD,
    ) -> None:
        """Replace the drafts of the plane, if there is one, as `ImageState.change_drafts` does."""
        if self.plane is not None:
            self.state.change_drafts(text, self.plane, drafts, edit, deed)
            self.drafts_changed.emit()

    @property
    def proposed(self) -> Proposed | None:
        """The proposals of the plane."""
        return None if self.plane is None else self.state.proposed(self.plane)

    @property
    def shown(self) -> Look | None:
        """The part of the plane that is on the screen."""
        here = self.here
        if here is None:
            return None
        rows, columns = in_view(*here)
        return Look(rows.start, columns.start, rows.stop, columns.stop)

    def start(self, draft: ObjectDraft) -> tuple[int, bool]:
        """Return the level of looks to begin a draft with, see `SizesSeen.start`."""
        seen, shown = self.seen, self.shown
        if seen is None or shown is None:
            return 0, False
        return self.state.sizes.start(seen, draft, max(shown.size))

    @property
    def level(self) -> int:
        """The level of looks for new objects."""
        seen, shown = self.seen, self.shown
        if seen is None or shown is None:
            return 0
        return self.state.sizes.usual(seen, max(shown.size))

    def first_look(self, cursor: tuple[float, float] | None) -> Look | None:
        """Return the look that the user is most likely to ask about; None without a plane.

        Parameters
        ----------
        cursor : (float, float), optional
            (x, y) where the mouse was.
        """
        seen, shown = self.seen, self.shown
        if seen is None or shown is None:
            return None
        points = self.drafts.current.points
        if points:
            x, y = points[0].x, points[0].y
            level, _ = self.start(self.drafts.current)
        else:
            level = self.level
            x, y = cursor or (
                (shown.x0 + shown.x1) / 2,
                (shown.y0 + shown.y1) / 2,
            )
        return seen.pyramid.holding((x, y, x, y), level)[1]

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
