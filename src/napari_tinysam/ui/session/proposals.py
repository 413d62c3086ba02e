"""What auto-segmentation proposes on the shown plane: drawn, filtered, accepted, rejected.

Proposals are shown in the layer `auto_segmentation` and changed by settings alone; only accepted
ones are written into the user's labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.labels import object_masks
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.proposal_layer import ProposalLayer
from napari_tinysam.ui.state.coloring import painted
from napari_tinysam.ui.state.images import FILTER
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.proposed import Proposed, piece

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.everything import Labelling, LabelSettings
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.labelling import Labeller
    from napari_tinysam.ui.session.loading import Notify
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.mode import ModeSwitch
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

_Found = tuple["Image", "Plane", "npt.NDArray[np.int32]"]


class ShownProposals:
    """Shows the proposals of the shown plane and carries out the user's decisions.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where their layer goes.
    subject : Subject
    labelling : Labeller
        Knows which pixels are labelled; writes accepted proposals.
    modes : ModeSwitch
        Picking ends where there are no proposals.
    notify : callable
        ``notify(level, text)``.
    on_decided : callable
        Called when proposals were replaced.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        labelling: Labeller,
        modes: ModeSwitch,
        notify: Notify,
        *,
        on_decided: Callable[[], None],
    ) -> None:
        self._subject = subject
        self._labels = labelling
        self._modes = modes
        self._notify = notify
        self._on_decided = on_decided
        self._labelling: Labelling | None = None  # as it is drawn
        self._found: _Found | None = None
        self.layer = ProposalLayer(viewer)

    # --- what the dock reads -------------------------------------------------------------

    @property
    def settings(self) -> LabelSettings | None:
        """Which of the shown plane's proposals are shown; None without proposals."""
        proposed = self._subject.proposed
        return None if proposed is None else proposed.settings

    @property
    def advice(self) -> str:
        """Advice after a poor result on the shown plane; "" where nothing looks wrong."""
        proposed = self._subject.proposed
        return "" if proposed is None else proposed.advice

    @property
    def largest_area(self) -> float:
        """Pixels of the shown plane's largest proposal."""
        proposed = self._subject.proposed
        areas = np.zeros(0) if proposed is None else proposed.proposals.areas
        return float(areas.max(initial=0))

    @property
    def count(self) -> int:
        """How many objects are proposed on the shown plane."""
        return 0 if self._labelling is None else len(self._labelling.numbers)

    @property
    def decided(self) -> bool:
        """Whether proposals of the shown plane were accepted or rejected."""
        proposed = self._subject.proposed
        return proposed is not None and bool(proposed.gone)

    # --- what the user decides -----------------------------------------------------------

    def set_settings(self, **changes: float) -> None:
        """Change the filter of the shown plane's proposals, without decoding again.

        Parameters
        ----------
        **changes
            Fields of `LabelSettings`.
        """
        proposed = self._subject.proposed
        if proposed is None:
            return
        settings = replace(proposed.settings, **changes)  # type: ignore[arg-type]
        if settings != proposed.settings:
            self._subject.memory.tuned = settings
            self._decide(proposed.with_settings(settings), FILTER)

    def accept_all(self) -> None:
        """Write all shown objects into the user's labels."""
        proposed, shown = self._subject.proposed, self._labelling
        plane = self._subject.plane
        if proposed is None or plane is None or shown is None or not shown.numbers:
            self._notify("info", "There are no proposals: press Auto-segment first.")
            return
        masks = [mask for _, mask in object_masks(shown.labels)]
        edit = self._labels.paste(plane, masks)
        if edit is not None:
            self._modes.leave(Mode.PICK)
            self._decide(proposed.without(frozenset(shown.numbers)), "accept all", edit)

    def discard(self) -> None:
        """Remove all proposals of the shown plane."""
        if self._subject.proposed is not None:
            self._decide(None, "discard")

    def click_at(self, xy: tuple[float, float], label: int | None) -> None:
        """Accept the proposal at (x, y), or reject it with a negative click."""
        proposed, plane = self._subject.proposed, self._subject.plane
        found = self._at(xy)
        if proposed is None or plane is None or found is None:
            self._notify("info", "There is no proposal here.")
            return
        number, mask = found
        after = proposed.without(frozenset({number}))
        if label == NEGATIVE:
            self._decide(after, "reject")
            return
        edit = self._labels.paste(plane, [mask])
        if edit is not None:
            self._decide(after, "accept", edit)

    def mask_at(self, xy: tuple[float, float]) -> BoxedMask | None:
        """Return the mask that is proposed at (x, y) of the shown plane."""
        found = self._at(xy)
        return None if found is None else found[1]

    def replace(
        self,
        image: Image,
        plane: Plane,
        after: Proposed | None,
        text: str,
        edit: Edit | None = None,
    ) -> None:
        """Replace the proposals of a plane, as one undo step."""
        state = self._subject.memory.states.get(image)
        if state is None:
            return
        state.change_proposed(text, plane, after, edit)
        self._on_decided()
        self.show()
        self._subject.changed.emit()

    def _decide(
        self, after: Proposed | None, text: str, edit: Edit | None = None
    ) -> None:
        if (here := self._subject.here) is not None:
            self.replace(*here, after, text, edit)

    def _at(self, xy: tuple[float, float]) -> tuple[int, BoxedMask] | None:
        """Return the number of the proposal at (x, y), and its shown part."""
        proposed, shown = self._subject.proposed, self._labelling
        if proposed is None or shown is None:
            return None
        height, width = shown.labels.shape
        column, row = (int(np.floor(value + 0.5)) for value in xy)
        if not (0 <= row < height and 0 <= column < width):
            return None
        label = int(shown.labels[row, column])
        if not label:
            return None
        number = shown.numbers[label - 1]
        return number, piece(shown.labels, label, proposed.proposals[number].mask)

    # --- what is shown -------------------------------------------------------------------

    def show(self) -> None:
        """Draw the shown plane's proposals, after any decision about them."""
        before = self.count
        self._labelling = None
        if (here := self._subject.here) is not None:
            self._show(*here)
        if self.count != before:
            self._subject.changed.emit()

    def show_found(
        self, image: Image, plane: Plane, shown: npt.NDArray[np.int32]
    ) -> None:
        """Draw what a search has found so far on a plane, (H, W), if that plane is shown."""
        self._found = image, plane, shown
        if self._is_shown(image, plane):
            self._write(image, plane, shown)

    def forget_found(self) -> None:
        """Stop drawing the search: it has ended."""
        self._found = None

    def _show(self, image: Image, plane: Plane) -> None:
        proposed = self._subject.proposed
        if proposed is not None:
            self._labelling = proposed.labelling(self._labels.labelled(plane))
            self._write(image, plane, painted(self._labelling, proposed.colors))
            return
        self._modes.leave(Mode.PICK)
        if self._found is not None and self._is_shown(*self._found[:2]):
            self._write(image, plane, self._found[2])
        else:
            self.layer.clear(image, plane)

    def _write(self, image: Image, plane: Plane, values: npt.NDArray[np.int32]) -> None:
        self.layer.write(image, self._subject.state.channel_axis, plane, values)

    def _is_shown(self, image: Image, plane: Plane) -> bool:
        here = self._subject.here
        return (
            here is not None
            and here[0] is image
            and here[1].without_channel() == plane.without_channel()
        )
