"""What the dock and the hints read from a session. Nothing here changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image

from napari_tinysam.ui.canvas.user_prompts import holds_prompts
from napari_tinysam.ui.session.labels.outputs import committed_name
from napari_tinysam.ui.session.stacks.axes import axes_of, depth_of
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.stack_planes import AxisKind, stack_axes

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.labels import Overlap
    from napari_tinysam.ui.session.assembly import Assembly
    from napari_tinysam.ui.session.auto.proposals import ShownProposals
    from napari_tinysam.ui.session.labels.saving import Saving
    from napari_tinysam.ui.session.stacks.axes import Depth, StackAxis
    from napari_tinysam.ui.state.drafts import PlaneDrafts
    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.mode import Mode
    from napari_tinysam.ui.state.planes import Contrast, Plane
    from napari_tinysam.ui.state.seeing import Seeing
    from napari_tinysam.ui.state.status import Status


class Overview:
    """Read-only properties over the parts of a session."""

    _parts: Assembly
    saving: Saving
    proposals: ShownProposals

    @property
    def active(self) -> bool:
        """Whether mouse and keys are ours."""
        return self._parts.pointing.active

    @property
    def status(self) -> Status:
        """What the session is doing or waiting for."""
        return self._parts.status_line.shown

    # --- the image, its plane, the model -------------------------------------------------

    @property
    def image(self) -> Image | None:
        """The image that is segmented."""
        return self._parts.subject.image

    @property
    def shown_plane(self) -> Plane | None:
        """The plane that can be segmented; None while there is none."""
        return self._parts.subject.plane

    def image_layers(self) -> list[Image]:
        """Return the layers that can be segmented, in the order of the layer list."""
        return self._parts.viewing.images()

    def shown_images(self) -> list[Image]:
        """Return the images that are not hidden."""
        return [layer for layer in self.image_layers() if layer.visible]

    @property
    def regions(self) -> list[Region]:
        """Where objects can be looked for now."""
        found = [Region.PLANE, Region.VIEW, Region.BOX]
        image, plane = self.image, self.shown_plane
        if image is not None and plane is not None and stack_axes(image, plane):
            found.append(Region.ALL_PLANES)
        if len(self.image_layers()) > 1:
            found.append(Region.ALL_IMAGES)
        if self._parts.listed.images is not None:
            found.append(Region.LIST)
        return [*found, Region.FILES]

    @property
    def region(self) -> Region:
        """Where objects are looked for: as chosen, or the plane where that is not possible."""
        chosen = self._parts.subject.memory.region
        return chosen if chosen in self.regions else Region.PLANE

    def state_of(self, image: Image) -> ImageState:
        """Return the state of an image."""
        return self._parts.subject.memory.state_of(image)

    @property
    def hidden_by(self) -> str | None:
        """Name of the image that hides the segmented one; None if none does."""
        image, layers = self.image, self._parts.viewer.layers
        if image is None or image not in layers:
            return None
        # A slice of napari's list is another list of its kind, which takes long to make.
        for layer in reversed(list(layers)[layers.index(image) + 1 :]):
            opaque = str(layer.blending) != "additive" and layer.opacity > 0.99
            if isinstance(layer, Image) and layer.visible and opaque:
                return str(layer.name)
        return None

    @property
    def channel(self) -> int | None:
        """Which channel is shown and segmented; None where there are none."""
        return self._parts.viewing.channel

    @property
    def channel_count(self) -> int:
        """How many channels there may be; 1: no choice."""
        return self._parts.viewing.channel_count

    @property
    def contrast(self) -> Contrast:
        """Which values are black and white for the model."""
        return self._parts.subject.memory.contrast

    @property
    def seeing(self) -> Seeing:
        """Through which looks large planes are seen."""
        return self._parts.subject.memory.seeing

    @property
    def model_name(self) -> str:
        """Registry name or file of the model."""
        return self._parts.embedder.name

    @property
    def device(self) -> str:
        """Where the model runs, as chosen."""
        return self._parts.embedder.device

    @property
    def model_in_use(self) -> tuple[str, str]:
        """The model that answers, and its device: another one may stand in for the chosen one."""
        return self._parts.embedder.in_use

    @property
    def model_failure(self) -> str:
        """Why the bundled model stands in for the chosen one; "" if it does not."""
        return self._parts.embedder.failure

    # --- what a click does ---------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What a click does."""
        return self._parts.modes.value

    @property
    def sign(self) -> int:
        """What a plain click means: POSITIVE or NEGATIVE."""
        return self._parts.prompting.sign

    @property
    def new_objects(self) -> bool:
        """Whether a click far from the current object begins another one."""
        return self._parts.subject.memory.new_objects

    def stack_axes(self) -> list[StackAxis]:
        """Describe the axes along which the image has several planes."""
        place = self._parts.runs.linking.place
        return [] if place is None else axes_of(*place, self._parts.subject.state)

    @property
    def depth_planes(self) -> Depth | None:
        """The planes of the stack; None where no axis is known to be depth."""
        place = self._parts.runs.linking.place
        return None if place is None else depth_of(*place, self._parts.subject.state)

    @property
    def frames(self) -> int:
        """Number of frames of a movie; 0 where no axis is known to be time."""
        time = [axis for axis in self.stack_axes() if axis.kind is AxisKind.TIME]
        return full_shape(self.image)[time[0].axis] if time and self.image else 0

    @property
    def tracks_hint(self) -> str:
        """What a correction of tracks waits for; "" if none was begun."""
        return self._parts.track_tool.hint

    @property
    def then_link(self) -> bool:
        """Whether objects are linked after all planes were auto-segmented."""
        return self._parts.subject.memory.then_link

    @property
    def hover_enabled(self) -> bool:
        """Whether the mask under the cursor is shown before a click."""
        return self._parts.prompting.hover_enabled

    @property
    def click_means(self) -> str:
        """What a click would do: "another" object, "part" of the current one, or ""."""
        return self._parts.prompting.click_means

    @property
    def offered(self) -> int | None:
        """An object that was clicked although it is labelled; a second click edits it."""
        return self._parts.labelling.offered

    @property
    def other_tool(self) -> str | None:
        """Name, as in napari, of the napari tool that has the mouse instead of us.

        None where clicks are ours, or draw prompts.
        """
        active = self._parts.viewer.layers.selection.active
        if active is None or str(active.mode) == "pan_zoom" or holds_prompts(active):
            return None
        return str(active.mode).replace("_", " ")

    def key_works(self, method: str) -> bool:
        """Whether the key of a method works where the user is now."""
        return self._parts.pointing.keys.works(method)

    # --- drafts --------------------------------------------------------------------------

    @property
    def drafts(self) -> PlaneDrafts:
        """The drafts of the shown plane."""
        return self._parts.subject.drafts

    @property
    def object_count(self) -> int:
        """Number of drafts on the shown plane."""
        return len(self.drafts.filled)

    @property
    def uncommitted_count(self) -> int:
        """Number of drafts on all planes of all images."""
        return sum(
            state.draft_count
            for image, state in self._parts.subject.memory.states.items()
            if image in self._parts.viewer.layers
        )

    @property
    def candidate_scores(self) -> tuple[float, ...]:
        """Predicted IoU of the current object's masks, small to large; empty without a mask."""
        return self._parts.prompting.scores

    @property
    def candidate(self) -> int | None:
        """Which of its masks the current object has: 0 the smallest, 2 the largest."""
        return self._parts.prompting.candidate

    @property
    def sees_nothing(self) -> bool:
        """Whether the current object's mask is known and empty."""
        return self._parts.prompting.sees_nothing

    @property
    def can_commit(self) -> bool:
        """Whether a draft has, or will get, a mask."""
        return bool(self.drafts.predictable)

    @property
    def can_clear(self) -> bool:
        """Whether anything is not committed."""
        return not self.drafts.is_empty

    # --- labels --------------------------------------------------------------------------

    def labels_layers(self) -> list[Labels]:
        """Return the layers that objects can be committed to."""
        return self._parts.labels_layers()

    def unsaved_layers(self) -> list[Labels]:
        """Return the labels layers with unsaved changes."""
        return [each for each in self.labels_layers() if not self.saving.is_saved(each)]

    @property
    def target(self) -> Labels | None:
        """The labels layer that objects are committed to; None: made at the first commit."""
        return self._parts.labelling.target

    @property
    def new_target_name(self) -> str:
        """Name of the layer that the first commit makes."""
        return "" if self.image is None else committed_name(self.image)

    @property
    def overlap(self) -> Overlap:
        """What a commit does to existing objects."""
        return self._parts.labelling.overlap

    @property
    def edited_id(self) -> int | None:
        """Id of the edited object; None if none is."""
        return self._parts.labelling.edited_id

    @property
    def can_edit(self) -> bool:
        """Whether a labelled object is edited, and can be deleted, merged or split."""
        return self.edited_id is not None

    @property
    def whole(self) -> bool:
        """Whether deleting and merging concern an object in all of its planes."""
        return self._parts.subject.memory.whole

    # --- history -------------------------------------------------------------------------

    @property
    def undo_text(self) -> str:
        """The step to undo, in words; "" if there is none."""
        return self._parts.undoing.undo_text

    @property
    def redo_text(self) -> str:
        """The step to redo, in words; "" if there is none."""
        return self._parts.undoing.redo_text

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self.undo_text)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return bool(self.redo_text)
