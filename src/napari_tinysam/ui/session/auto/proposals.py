"""What auto-segmentation proposes on the shown plane: drawn, filtered, accepted, rejected.

Proposals are shown in the layer `auto_segmentation` and changed by settings alone; only accepted
ones are written into the user's labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.inference.drafts import ObjectDraft
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.proposal_layer import ProposalLayer
from napari_tinysam.ui.session.journals.deeds import accept_deed, settings_to_json
from napari_tinysam.ui.state.classes import ClassEdit
from napari_tinysam.ui.state.coloring import PALETTE
from napari_tinysam.ui.state.history import UNTOLD, Deed
from napari_tinysam.ui.state.images import FILTER
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.painted import PaintedPlane, ShownObjects

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.everything import LabelSettings, Proposals
    from napari_tinysam.everything.shapes import Shapes, TakenPixels
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.edits import LabelEdit
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.classes import ClassOf
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.mode import ModeSwitch
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Classed, Proposed, Ranking
    from napari_tinysam.ui.state.subject import Subject

_Found = tuple["Image", "Plane", PaintedPlane]


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
        self._shapes: Shapes | None = None  # what is shown
        #: Which pixels of proposals are labelled; None where it has to be looked up.
        self._taken: tuple[Proposals, TakenPixels | None] | None = None
        self._found: _Found | None = None
        self.layer = ProposalLayer(viewer)
        #: Returns the classes of a layer's objects: accepted proposals may get one.
        self.classes_of: Callable[[Labels], ClassOf] = lambda layer: {}

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
    def ranking(self) -> Ranking | None:
        """How alike the shown plane's proposals are to what the user asked about."""
        proposed = self._subject.proposed
        return None if proposed is None else proposed.ranking

    @property
    def classed(self) -> Classed | None:
        """The classes of the shown plane's proposals."""
        proposed = self._subject.proposed
        return None if proposed is None else proposed.classed

    @property
    def largest_area(self) -> float:
        """Pixels of the shown plane's largest proposal."""
        proposed = self._subject.proposed
        areas = np.zeros(0) if proposed is None else proposed.proposals.areas
        return float(areas.max(initial=0))

    @property
    def count(self) -> int:
        """How many objects are proposed on the shown plane."""
        return 0 if self._shapes is None else len(self._shapes.numbers)

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
            self._decide(proposed.with_settings(settings), FILTER, same_labels=True)

    def set_least_likeness(self, least: float) -> None:
        """Show the proposals that are at least this alike to what the user asked about."""
        proposed = self._subject.proposed
        ranking = None if proposed is None else proposed.ranking
        if proposed is None or ranking is None or ranking.least == least:
            return
        after = proposed.with_least_likeness(least)
        self._decide(after, FILTER, same_labels=True)

    def accept_all(self) -> None:
        """Write all shown objects into the user's labels."""
        proposed, shown = self._subject.proposed, self._shapes
        plane = self._subject.plane
        if proposed is None or plane is None or shown is None or not shown.numbers:
            self._notify("info", "There are no proposals: press Auto-segment first.")
            return
        masks = [shown.of(number).trimmed() for number in shown.numbers]
        pasted = self._labels.paste(plane, masks)
        if pasted is not None:
            self._modes.leave(Mode.PICK)
            numbers = list(shown.numbers)
            after = proposed.without(frozenset(numbers))
            self._accept(
                proposed, after, numbers, *pasted, text="accept all", all_shown=True
            )

    def discard(self) -> None:
        """Remove all proposals of the shown plane."""
        if self._subject.proposed is not None:
            self._decide(None, "discard", deed=Deed("reject", {"all": True}))

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
            told = {"at": [xy[1], xy[0]], "score": proposed.proposals.scores[number]}
            self._decide(after, "reject", deed=Deed("reject", told))
        elif (pasted := self._labels.paste(plane, [mask])) is not None:
            self._accept(
                proposed, after, [number], *pasted, text="accept", all_shown=False
            )
        if not self.count:  # clicks begin objects again
            self._modes.leave(Mode.PICK)

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
        deed: Deed = UNTOLD,
        *,
        same_labels: bool = False,
        classes: ClassEdit | None = None,
    ) -> None:
        """Replace the proposals of a plane, as one undo step; maybe the labels did not change."""
        state = self._subject.memory.states.get(image)
        if state is None:
            return
        if not deed.arguments and after is not None:
            told: dict[str, Any] = {"filter": settings_to_json(after.settings)}
            if text != FILTER:
                told["count"] = len(after.proposals)
            deed = Deed(deed.name, told)
        state.change_proposed(text, plane, after, edit, deed, classes)
        self._on_decided()
        self.show(same_labels=same_labels)
        self._subject.changed.emit()

    def _decide(
        self,
        after: Proposed | None,
        text: str,
        edit: Edit | None = None,
        deed: Deed = UNTOLD,
        *,
        same_labels: bool = False,
    ) -> None:
        if (here := self._subject.here) is not None:
            self.replace(*here, after, text, edit, deed, same_labels=same_labels)

    def _accept(
        self,
        proposed: Proposed,
        after: Proposed,
        numbers: list[int],
        edit: LabelEdit,
        labels: list[int],
        *,
        text: str,
        all_shown: bool,
    ) -> None:
        """Record proposals that were written, with the classes that they get."""
        image, plane = self._subject.here or (None, None)
        assert image is not None
        assert plane is not None
        (seconds,) = self._labels.recording.seconds(image, plane, [ObjectDraft()])
        deed = accept_deed(
            plane,
            proposed.proposals,
            proposed.settings,
            numbers,
            labels,
            seconds,
            all_shown=all_shown,
        )
        kinds = {
            label: kind
            for number, label in zip(numbers, labels, strict=True)
            if label and (kind := proposed.class_of(number)) is not None
        }
        classes = None
        if kinds:
            known = self.classes_of(edit.layer)
            classes = ClassEdit(edit.layer, known, dict.fromkeys(kinds), kinds)
            classes.apply()
            deed = replace(deed, arguments={**deed.arguments, **classes.told})
        self.replace(image, plane, after, text, edit, deed, classes=classes)

    def _at(self, xy: tuple[float, float]) -> tuple[int, BoxedMask] | None:
        """Return the number of the proposal at (x, y), and its shown part."""
        shown = self._shapes
        if shown is None:
            return None
        column, row = (int(np.floor(value + 0.5)) for value in xy)
        number = shown.at(row, column)
        return None if number is None else (number, shown.of(number).trimmed())

    # --- what is shown -------------------------------------------------------------------

    def show(self, *, same_labels: bool = False) -> None:
        """Draw the shown plane's proposals, after any decision about them.

        Parameters
        ----------
        same_labels : bool
            No label has changed since the last time.
        """
        before = self.count
        self._shapes = None
        if not same_labels:
            self._taken = None
        if (here := self._subject.here) is not None:
            self._show(*here)
        if self.count != before:
            self._subject.changed.emit()

    def show_found(self, image: Image, plane: Plane, shown: PaintedPlane) -> None:
        """Draw what a search has found so far on a plane, if that plane is shown."""
        self._found = image, plane, shown
        if self._is_shown(image, plane):
            self._write(image, plane, shown)

    def forget_found(self) -> None:
        """Stop drawing the search: it has ended."""
        self._found = None

    def _show(self, image: Image, plane: Plane) -> None:
        proposed = self._subject.proposed
        if proposed is not None:
            self._shapes = proposed.shapes(self._taken_by(proposed.proposals, plane))
            colors, palette = proposed.painting
            painted = ShownObjects(self._shapes, colors, proposed.kept, len(palette))
            self._write(image, plane, painted, palette)
            return
        self._modes.leave(Mode.PICK)
        if self._found is not None and self._is_shown(*self._found[:2]):
            self._write(image, plane, self._found[2])
        else:
            self.layer.clear(image, plane)

    def _taken_by(self, proposals: Proposals, plane: Plane) -> TakenPixels | None:
        """Look up which pixels of proposals are labelled; None without labels."""
        from napari_tinysam.everything.shapes import TakenPixels

        if self._taken is None or self._taken[0] is not proposals:
            at = self._labels.labelled(plane)
            taken = None if at is None else TakenPixels(proposals, at)
            self._taken = proposals, taken
        return self._taken[1]

    def _write(
        self,
        image: Image,
        plane: Plane,
        painted: PaintedPlane,
        palette: Sequence[str] = PALETTE,
    ) -> None:
        axis = self._subject.state.channel_axis
        self.layer.write(image, axis, plane, painted, palette)

    def _is_shown(self, image: Image, plane: Plane) -> bool:
        here = self._subject.here
        return (
            here is not None
            and here[0] is image
            and here[1].without_channel() == plane.without_channel()
        )
