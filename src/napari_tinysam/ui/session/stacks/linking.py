"""Objects of neighbouring planes become objects of the stack, in the labels of an image.

The planes are measured once, in steps on the inference thread. Links are found anew from that
whenever a setting changes, also there; only the latest change counts. What was hidden, because it
shows in too few planes, is there again when the setting goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.session.journals.deeds import settings_to_json
from napari_tinysam.ui.session.labels.writing import LabelsError, plane_in
from napari_tinysam.ui.session.stacks.linked_stack import (
    LinkEdit,
    LinkedStack,
    found_ids,
    in_words,
    named,
)
from napari_tinysam.ui.session.stacks.work import StackWork, Workplace
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.history import Deed
from napari_tinysam.ui.state.stack_planes import (
    AxisKind,
    axis_of_kind,
    planes_along,
    stack_axes,
)
from napari_tinysam.volume.linking import LinkSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.ui.session.stacks.pieces import Relabel
    from napari_tinysam.ui.state.planes import Plane

#: What the step of the button and that of the sliders are called.
STEP, SLIDER = "link planes", "linking"

#: Across a gap objects must overlap by this much more than in neighbouring planes.
_SURER = 0.1


class Linking(StackWork):
    """Links objects through the depth of stacks, one stack at a time.

    Parameters
    ----------
    place : Workplace
    """

    def __init__(self, place: Workplace) -> None:
        super().__init__(place, "Linking", Lane.LINK)
        self._then: Callable[[], None] | None = None
        self._relabelling.on_turned.append(self._turned)

    @property
    def note(self) -> str:
        """What is linked in the labels of the image, in words."""
        stack = self._stack
        return in_words(stack) if stack is not None and stack.on else ""

    # --- what the user chooses -----------------------------------------------------------

    @property
    def settings(self) -> LinkSettings:
        """When objects of two planes of the image are the same."""
        subject = self._subject
        return LinkSettings() if subject.image is None else subject.state.linking

    def set_settings(self, **changed: Any) -> None:
        """Change settings, and link anew what is linked.

        Parameters
        ----------
        **changed
            Those of `LinkSettings`.
        """
        image = self._subject.image
        if image is None:
            return
        settings = replace(self.settings, **changed)
        if "overlap" in changed:
            across = min(1.0, settings.overlap + _SURER)
            settings = replace(settings, gap_overlap=across)
        self._subject.state.linking = settings
        if self.linked and self._is_tracked(image):
            self._notify(
                "info",
                "The labels are tracks now. Undo the tracking (Ctrl+Z) to link the planes "
                "otherwise.",
            )
        elif self.linked:
            self._begin(image, SLIDER)
        self._subject.changed.emit()

    @property
    def linked(self) -> bool:
        """Whether the labels of the image are linked, so that settings show at once."""
        return self._stack is not None and self._stack.on

    def _is_tracked(self, image: Image) -> bool:
        """Whether the objects of the stacks were tracked since: that is not undone by a slider."""
        movie = self._subject.memory.tracked.get(self._outputs.of(image))
        return movie is not None and movie.tracks is not None

    @property
    def _stacks(self) -> dict[Labels, LinkedStack]:
        return self._subject.memory.linked

    @property
    def _stack(self) -> LinkedStack | None:
        image = self._subject.image
        layer = None if image is None else self._outputs.of(image)
        return None if layer is None else self._stacks.get(layer)

    # --- begin and end -------------------------------------------------------------------

    def link(
        self, images: Sequence[Image], then: Callable[[], None] | None = None
    ) -> None:
        """Link the objects in the labels of images, one image after the other.

        Parameters
        ----------
        images : sequence of napari.layers.Image
        then : callable, optional
            Called after the last of them was linked.
        """
        self._then = then
        self._work_on(images)

    def depth_known(self, image: Image) -> bool:
        """Whether an axis of an image is known to be depth."""
        plane = self._plane(image)
        state = self._subject.memory.state_of(image)
        return plane is not None and (
            axis_of_kind(image, plane, state, AxisKind.DEPTH) is not None
        )

    def forget(self, layer: Image | Labels) -> None:
        """Forget a layer that left the viewer, or an image that has other data."""
        for labels, stack in list(self._stacks.items()):
            if layer is labels or layer is stack.image:
                del self._stacks[labels]
        super().forget(layer)

    def _stop(self) -> None:
        self._then = None
        super()._stop()

    def _turned(self, edit: Relabel, applied: bool) -> None:
        """Follow a step that was undone or redone."""
        if not isinstance(edit, LinkEdit):
            return
        stack = edit.stack
        was_on, was = edit.was
        stack.on = applied or was_on
        stack.settings = edit.settings if applied else was
        stack.edit = None
        stack.version = self._saving.version(edit.layer)
        self._stacks[edit.layer] = stack
        self._subject.memory.state_of(stack.image).linking = stack.settings

    # --- measuring -----------------------------------------------------------------------

    def linked_in(self, layer: Labels) -> bool:
        """Whether a layer is linked."""
        stack = self._stacks.get(layer)
        return stack is not None and stack.on

    def _begin(self, image: Image, step: str = STEP) -> None:
        """Measure the planes of an image's labels, unless that was done; then link."""
        if self._now is not None:
            stack = self._stack
            if self._measuring is None and self._now is image and stack is not None:
                self._link(stack, step)  # with the newer settings
            return
        try:
            layer, stacks = self._planes(image)
        except TinySAMError as error:
            self._notify("info", str(error))
            self._go_on()
            return
        self._now = image
        stack = self._stacks.get(layer)
        groups = [group for planes in stacks for group in planes]
        if stack is not None and self._is_current(stack, groups):
            self._link(stack, step)
            return
        self._measure(
            layer,
            stacks,
            None if stack is None else stack.pieces,
            False,
            lambda found: self._pieces_found(image, found, stack, step),
        )

    def _planes(self, image: Image) -> tuple[Labels, list[list[list[Plane]]]]:
        """Return the labels of an image, and their planes by stack."""
        layer, plane = self._outputs.of(image), self._plane(image)
        if layer is None or plane is None:
            raise LabelsError(
                f"There is nothing to link: {image.name} has no labels yet."
            )
        if not stack_axes(image, plane):
            raise LabelsError(
                f"There is nothing to link: {image.name} has one plane only."
            )
        state = self._subject.memory.state_of(image)
        axis = axis_of_kind(image, plane, state, AxisKind.DEPTH)
        if axis is None:
            raise LabelsError(
                f"No axis of {image.name} is known to be depth (z). Choose it first."
            )
        stacks = planes_along(image, plane, axis, ranges=state.part)
        if all(len(stack) < 2 for stack in stacks):
            raise LabelsError(
                "Linking takes two planes or more: choose a longer range."
            )
        return layer, [
            [[plane_in(layer, each) for each in group] for group in stack]
            for stack in stacks
        ]

    def _pieces_found(
        self, image: Image, found: MeasuredPieces, before: LinkedStack | None, step: str
    ) -> None:
        layer = found.layer
        ids = self._outputs.ids(layer)
        try:
            followed = [trace.label for trace in self._subject.memory.traces_of(layer)]
            own, left = named(
                found, before, followed, ids.next, apart=self._in_part(image)
            )
        except LabelsError as error:
            self._failed(error)
            return
        ids.used(max(int(each.max(initial=0)) for each in own))
        pieces = self._relabelling.made(found)
        linking = self._subject.memory.state_of(image).linking
        was = linking if before is None else before.settings
        stack = LinkedStack(
            image=image,
            measured=found,
            pieces=pieces,
            own=own,
            version=found.version,
            left=left,
            settings=was,
            on=before is not None and before.on,
        )
        self._stacks[layer] = stack
        self._link(stack, step)

    # --- linking -------------------------------------------------------------------------

    def _link(self, stack: LinkedStack, step: str) -> None:
        """Find the links on the inference thread, and show them."""
        settings = self._subject.memory.state_of(stack.image).linking

        def shown(
            found: tuple[list[npt.NDArray[np.int64]], int, int], newest: bool
        ) -> None:
            ids, stack.objects, stack.hidden = found
            self._show(stack, ids, settings, step)
            if newest:
                then, last = self._then, not self._next
                self._end(in_words(stack) if step == STEP else "")
                self._then = None if last else then
                self._go_on()
                if last and then is not None:
                    then()

        self._compute(stack, lambda: found_ids(stack, settings), shown)

    def _show(
        self,
        stack: LinkedStack,
        ids: list[npt.NDArray[np.int64]],
        settings: LinkSettings,
        step: str,
    ) -> None:
        edit = stack.edit
        if not isinstance(edit, LinkEdit) or not self._goes_on(stack, step, SLIDER):
            now = stack.pieces.tables
            was = stack.on, stack.settings
            edit = LinkEdit(stack.pieces, now, now, stack.first, stack, was, settings)
        edit.settings = stack.settings = settings
        stack.on = True
        deed = Deed("link", {"settings": settings_to_json(settings)})
        self._write(stack, edit, ids, step, deed)
