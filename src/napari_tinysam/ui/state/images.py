"""What a session remembers of each image, and how a plane of it is read and embedded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.inference.plane_looks import encode_part
from napari_tinysam.inference.pyramid import LookPyramid
from napari_tinysam.ui.state.contrast import limits_reader
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.habit import MaskHabit
from napari_tinysam.ui.state.history import UNTOLD, Deed, Edit, History, Step
from napari_tinysam.ui.state.planes import (
    Contrast,
    Plane,
    certain_channel_axis,
    plane_reader,
    possible_channel_axis,
)
from napari_tinysam.ui.state.rectangles import part_reader
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.seeing import Seeing, SeenPlane, SizesSeen
from napari_tinysam.ui.state.stack_planes import AxisKind, kinds_in_file
from napari_tinysam.ui.state.traces import Traces
from napari_tinysam.volume.linking import LinkSettings
from napari_tinysam.volume.tracking import TrackSettings

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_tinysam.everything import LabelSettings
    from napari_tinysam.files.mark import FileMark
    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.journal.folder import HeldJournal
    from napari_tinysam.journal.objects import ObjectRecords
    from napari_tinysam.journal.writing import Journal
    from napari_tinysam.ui.state.classes import ClassEdit
    from napari_tinysam.ui.state.proposed import Proposed

_numbers = count()

#: Text of the step that filters proposals.
FILTER = "filter"


@dataclass(eq=False)
class ImageState:
    """Drafts, proposals, history and labels of one image layer.

    Parameters
    ----------
    channel_axis : int or None
        The axis that holds channels; None where all axes make a stack.
    possible_channel_axis : int or None
        The axis that may hold them.
    target : napari.layers.Labels, optional
        Where objects are committed to; None: a new layer, made with the first of them.
    sizes : SizesSeen
        Of its objects.
    ranges : dict of int to (int, int)
        First and last position on axes of which auto-segmentation takes a part.
    z_step : float or None
        How far planes lie apart, in pixels of a plane, as the user said. See `plane_step`.
    part : dict of int to (int, int)
        First and last position on axes of which a part is linked or tracked.
    kind : dict of int to AxisKind
        What axes without a telling label are: as the file or the user said. See `axis_kind`.
    follow_axis : int or None
        The axis along which objects are followed, if the user chose it.
    linking : LinkSettings
        When objects of two planes are the same.
    tracking : TrackSettings
        When objects of two frames are the same.
    chosen : bool
        Whether the user chose `target`, also where that is None.
    """

    channel_axis: int | None = None
    possible_channel_axis: int | None = None
    target: Labels | None = None
    chosen: bool = False
    history: History = field(default_factory=History)
    _drafts: dict[Plane, PlaneDrafts] = field(default_factory=dict)
    _proposed: dict[Plane, Proposed] = field(default_factory=dict)
    sizes: SizesSeen = field(default_factory=SizesSeen)
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    z_step: float | None = None
    part: dict[int, tuple[int, int]] = field(default_factory=dict)
    kind: dict[int, AxisKind] = field(default_factory=dict)
    follow_axis: int | None = None
    linking: LinkSettings = field(default_factory=LinkSettings)
    tracking: TrackSettings = field(default_factory=TrackSettings)
    #: Values that are black and white on a large plane, by what they depend on.
    limits: dict[Hashable, tuple[float, float] | None] = field(default_factory=dict)
    #: Told of each step that is done, see `Memory.on_step`.
    on_step: Callable[[Step], None] = field(default=lambda step: None, repr=False)
    #: Tells this image, and this version of its data, from all others.
    version: int = field(default_factory=lambda: next(_numbers))

    def touch(self) -> None:
        """Note that the image's data changed: embeddings of it are void."""
        self.version = next(_numbers)
        self.limits.clear()

    def drafts(self, plane: Plane) -> PlaneDrafts:
        """Return the drafts of a plane; they belong to all channels."""
        return self._drafts.get(plane.without_channel(), PlaneDrafts())

    def set_drafts(self, plane: Plane, drafts: PlaneDrafts) -> None:
        """Replace the drafts of a plane."""
        if drafts.is_empty:
            self._drafts.pop(plane.without_channel(), None)
        else:
            self._drafts[plane.without_channel()] = drafts

    @property
    def all_drafts(self) -> dict[Plane, PlaneDrafts]:
        """The drafts of each plane that has some, as a dictionary of their own."""
        return dict(self._drafts)

    @property
    def draft_count(self) -> int:
        """Number of drafts, on all planes."""
        return sum(len(drafts.filled) for drafts in self._drafts.values())

    def proposed(self, plane: Plane) -> Proposed | None:
        """Return the proposals of a plane, unless the image's data have changed since."""
        found = self._proposed.get(plane.without_channel())
        return found if found is not None and found.version == self.version else None

    def set_proposed(self, plane: Plane, proposed: Proposed | None) -> None:
        """Replace the proposals of a plane."""
        if proposed is None:
            self._proposed.pop(plane.without_channel(), None)
        else:
            self._proposed[plane.without_channel()] = proposed

    def change_drafts(
        self,
        text: str,
        plane: Plane,
        drafts: PlaneDrafts,
        edit: Edit | None = None,
        deed: Deed = UNTOLD,
        classes: ClassEdit | None = None,
    ) -> None:
        """Replace the drafts of a plane as one undo step.

        Parameters
        ----------
        text : str
            What was done, for the button.
        plane : Plane
        drafts : PlaneDrafts
        edit : Edit, optional
            What was written into a labels layer as part of the step.
        deed : Deed, optional
        classes : ClassEdit, optional
            Which objects have other classes since.
        """
        before, proposed = self.drafts(plane), self.proposed(plane)
        self.set_drafts(plane, drafts)
        step = Step(text, plane, before, drafts, edit, proposed, proposed, deed)
        step = replace(step, classes=classes)
        self.on_step(self.history.push(step))

    def change_labels(
        self, text: str, plane: Plane, edit: Edit, deed: Deed = UNTOLD
    ) -> None:
        """Note a change of labels on many planes as one undo step.

        If the last step is that of the same edit, which has changed meanwhile, it stays one.
        """
        drafts, proposed = self.drafts(plane), self.proposed(plane)
        last = self.history.last
        if last is not None and last.edit is edit:
            self.on_step(self.history.push_joined(replace(last, deed=deed)))
            return
        step = Step(text, plane, drafts, drafts, edit, proposed, proposed, deed)
        self.on_step(self.history.push(step))

    def change_proposed(
        self,
        text: str,
        plane: Plane,
        proposed: Proposed | None,
        edit: Edit | None,
        deed: Deed = UNTOLD,
        classes: ClassEdit | None = None,
    ) -> None:
        """Replace the proposals of a plane as one undo step; dragging a slider is one step.

        Parameters
        ----------
        text, plane, edit, deed, classes
            As `change_drafts` takes them.
        proposed : Proposed or None
        """
        drafts, before = self.drafts(plane), self.proposed(plane)
        self.set_proposed(plane, proposed)
        step = Step(text, plane, drafts, drafts, edit, before, proposed, deed)
        step = replace(step, classes=classes)
        push = self.history.push_joined if text == FILTER else self.history.push
        self.on_step(push(step))


@dataclass(eq=False)
class Memory:
    """What is remembered of a viewer from one dock to the next.

    Parameters
    ----------
    states : WeakKeyDictionary
        Of each image.
    changes : WeakKeyDictionary
        Number of unsaved changes of each labels layer.
    files : WeakKeyDictionary
        The file that each labels layer was saved to.
    marks : WeakKeyDictionary
        What tells that this file is still the one that was written.
    versions : WeakKeyDictionary
        Number of all changes of each labels layer.
    linked : dict
        What is linked in each labels layer, as `Linking` keeps it.
    tracked : dict
        What is tracked in each labels layer, as `Tracking` keeps it.
    journals : WeakKeyDictionary
        The journal of each labels layer that was changed, as `Recording` keeps it.
    early : WeakKeyDictionary
        What was done on each image before its labels had a journal, as `Telling` keeps it.
    objects : WeakKeyDictionary
        What each journal has told of objects, as `ObjectTable` keeps it.
    image : callable, optional
        Weak reference to the image that was segmented last.
    contrast : Contrast
    seeing : Seeing
    new_objects : bool
        Whether a click far from the current object begins another one.
    region : Region
        Where auto-segmentation looks.
    fill : bool
        Whether auto-segmentation of all planes adds objects to planes that have some.
    traces : WeakKeyDictionary
        The followed objects of each labels layer.
    whole : bool
        Whether deleting and merging concern an object in all of its planes.
    then_link : bool
        Whether objects are linked through the planes after all planes were auto-segmented.
    tuned : LabelSettings, optional
        Which proposals the user chose to see last, with this model; None: the model's own choice.
    habit : MaskHabit
        Which of the model's three masks an object begins with.
    on_step : callable
        Told of each step on an image, see `Recording`.
    """

    states: weakref.WeakKeyDictionary[Image, ImageState] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    changes: weakref.WeakKeyDictionary[Labels, int] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    files: weakref.WeakKeyDictionary[Labels, Path] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    marks: weakref.WeakKeyDictionary[Labels, FileMark] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    traces: weakref.WeakKeyDictionary[Labels, Traces] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    whole: bool = True
    versions: weakref.WeakKeyDictionary[Labels, int] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    journals: weakref.WeakKeyDictionary[Labels, HeldJournal] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    early: weakref.WeakKeyDictionary[Image, Any] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    objects: weakref.WeakKeyDictionary[Journal, ObjectRecords] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    linked: dict[Labels, Any] = field(default_factory=dict)
    tracked: dict[Labels, Any] = field(default_factory=dict)
    image: Callable[[], Image | None] = lambda: None
    contrast: Contrast = Contrast.PERCENTILES
    seeing: Seeing = Seeing.AUTO
    new_objects: bool = True
    region: Region = Region.PLANE
    fill: bool = True
    then_link: bool = True
    tuned: LabelSettings | None = None
    habit: MaskHabit = field(default_factory=MaskHabit)
    on_step: Callable[[Image, Step], None] = lambda image, step: None

    def traces_of(self, layer: Labels) -> Traces:
        """Return the followed objects of a labels layer."""
        return self.traces.setdefault(layer, Traces())

    def state_of(self, image: Image) -> ImageState:
        """Return the state of an image."""
        if image not in self.states:
            self.states[image] = ImageState(
                certain_channel_axis(image),
                possible_channel_axis(image),
                kind=kinds_in_file(image),
                on_step=self._teller(image),
            )
        return self.states[image]

    def _teller(self, image: Image) -> Callable[[Step], None]:
        """Return what passes on the steps of an image, without keeping the image alive."""
        of = weakref.ref(image)

        def tell(step: Step) -> None:
            known = of()
            if known is not None:
                self.on_step(known, step)

        return tell


#: By the viewer's id; gone with the viewer.
_memories: dict[int, Memory] = {}


def memory_of(viewer: ViewerModel) -> Memory:
    """Return what is remembered of a viewer; it is forgotten with the viewer."""
    key = id(viewer)
    if key not in _memories:
        _memories[key] = Memory()
        weakref.finalize(viewer, _memories.pop, key, None)
    return _memories[key]


def forget(viewer: ViewerModel) -> None:
    """Forget a viewer: its window closes."""
    _memories.pop(id(viewer), None)


def put_above(viewer: ViewerModel, layer: Layer, image: Image) -> None:
    """Move a layer that lies below an image right above it, where it can be seen."""
    layers = viewer.layers
    if layer in layers and image in layers:
        at, image_at = layers.index(layer), layers.index(image)
        if at < image_at:
            layers.move(at, image_at + 1)


def seen_plane(
    image: Image, plane: Plane, memory: Memory, cache: RecentEmbeddings
) -> SeenPlane:
    """Describe how the model sees a plane, with the image's data and the choices of this moment.

    Whole planes are read as they always were. Looks of large planes have the contrast of their
    plane, which is found with the first look.
    """
    state, seeing = memory.state_of(image), memory.seeing
    limits: tuple[float, float] | None = None
    if memory.contrast is Contrast.DISPLAYED and not image.rgb:
        low, high = image.contrast_limits
        limits = (float(low), float(high))
    colours = bool(image.rgb)
    key = (state.version, plane, memory.contrast, limits)
    if not is_large(plane.shape):
        read = plane_reader(image, plane)

        def begin() -> Callable[[Predictor], Embedding]:
            pixels = read()

            def encode(predictor: Predictor) -> Embedding:
                return encode_part(
                    predictor,
                    pixels,
                    size=plane.shape,
                    limits=limits,
                    colours=colours,
                )

            return encode

        return SeenPlane(
            key,
            LookPyramid.of(plane.shape),
            lambda look: key,
            lambda predictor, look: begin()(predictor),
            cache,
            limits=limits,
            begin=begin,
        )

    read_part, find_limits = part_reader(image, plane), limits_reader(image, plane)

    def read_look(predictor: Predictor, look: Look) -> Embedding:
        black_and_white = limits
        if black_and_white is None:
            if key not in state.limits:
                state.limits[key] = find_limits()
            black_and_white = state.limits[key]
        return encode_part(
            predictor,
            read_part(look.rows, look.columns),
            size=look.size,
            limits=black_and_white,
            colours=colours,
        )

    pyramid = LookPyramid.of(plane.shape, whole=seeing is Seeing.WHOLE)
    return SeenPlane(
        (*key, seeing),
        pyramid,
        lambda look: (*key, look),
        read_look,
        cache,
        seeing,
        limits,
        lambda: state.limits.get(key),
    )
