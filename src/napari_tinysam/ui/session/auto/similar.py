"""Find similar: proposals of the shown plane by how alike they are to an object, or to classes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.inference.likeness import ComparedObjects, ObjectFeatures
from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.auto.segmenter import Question
from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.state.images import FILTER
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.proposed import Classed, Ranking
from napari_tinysam.ui.state.region import Region, region_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.session.auto.proposals import ShownProposals
    from napari_tinysam.ui.session.auto.run import EmbeddedPlane
    from napari_tinysam.ui.session.auto.segmenter import AutoSegmenter, Sorting
    from napari_tinysam.ui.session.clicks.draft_masks import DraftMasks
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.images.classifying import Classifying
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.classes import ObjectClass
    from napari_tinysam.ui.state.mode import ModeSwitch
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Proposed
    from napari_tinysam.ui.state.seeing import SeenPlane
    from napari_tinysam.ui.state.subject import Subject

#: Proposals that are less alike are not shown at first: no more than any other object of the plane.
LEAST = 0.5


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the user asked about.

    Parameters
    ----------
    words : str
        "object 5", "this object", "the 4 objects of “big”".
    mask : BoxedMask or None
        Of an object that is not committed.
    labels : tuple of int
        Ids of committed ones.
    kind : ObjectClass or None
    """

    words: str
    mask: BoxedMask | None = None
    labels: tuple[int, ...] = ()
    kind: ObjectClass | None = None


class Similar:
    """Ranks proposals by their likeness to an object, and sorts them into classes.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
    masks : DraftMasks
    segmenter : AutoSegmenter
        Finds the objects that are compared.
    proposals : ShownProposals
    classifying : Classifying
    modes : ModeSwitch
    notify : callable
        ``notify(level, text)``.
    """

    def __init__(
        self,
        subject: Subject,
        labelling: Labeller,
        masks: DraftMasks,
        segmenter: AutoSegmenter,
        proposals: ShownProposals,
        classifying: Classifying,
        modes: ModeSwitch,
        notify: Notify,
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._masks = masks
        self._segmenter = segmenter
        self._proposals = proposals
        self._classifying = classifying
        self._modes = modes
        self._notify = notify
        segmenter.sorting = self._by_class
        proposals.classes_of = classifying.of
        classifying.changed.connect(self._classes_changed)

    def close(self) -> None:
        """Stop following the classes."""
        self._classifying.changed.disconnect(self._classes_changed)

    def _classes_changed(self) -> None:
        self._proposals.show(same_labels=True)  # maybe in other colours now
        self._subject.changed.emit()

    # --- find similar --------------------------------------------------------------------

    def find(self) -> None:
        """Propose the objects of the shown plane that are alike to the chosen one."""
        if self._subject.here is None:
            return  # no image, or the 3-D view: the status says so
        if self._segmenter.running:
            self._notify("info", "Auto-segmentation is already running.")
            return
        asked = self._asked()
        scene, seen = self._segmenter.scene(), self._subject.seen
        if asked is None:
            self._notify(
                "info", "Click an object, or move over a committed one, and ask again."
            )
            return
        if scene is None or seen is None:
            self._notify(
                "info", "The image is still being read: ask again in a moment."
            )
            return
        examples = self._reader(scene)

        def sorting(found: Proposed) -> Iterator[Proposed | None]:
            own = [asked.mask] if asked.mask is not None else []
            own += examples(asked.labels).values()
            given = [*_masks_of(found), *own]
            objects = yield from _compared(scene, seen, given)
            count = len(found.proposals)
            alike = objects.likeness(range(count, len(given)))[:count]
            ranking = Ranking(alike, LEAST, asked.words, asked.kind)
            yield replace(found, ranking=ranking, classed=None)

        large = is_large(scene.plane.shape)
        region = Region.VIEW if large else Region.PLANE
        question = Question("find similar", region, sorting, self._found)
        before = self._subject.proposed
        if before is None:
            self._segmenter.run(question)
        else:
            # What was rejected may be alike to this one; what was accepted is labelled.
            self._segmenter.sort(replace(before, gone=frozenset()), question)

    def _found(self) -> None:
        """Let clicks accept and reject what is proposed."""
        if self._proposals.count:
            self._modes.enter(Mode.PICK)
        elif self._subject.proposed is not None:
            self._notify(
                "info",
                "No other object is that alike. Move the slider “Likeness” to the left.",
            )

    def _asked(self) -> _Asked | None:
        """Find the object that is edited, under the cursor, or being clicked."""
        labelling, layer = self._labelling, self._labelling.target
        label = labelling.edited_id or labelling.id_at(self._subject.cursor)
        if label and layer is not None:
            kind = self._classifying.of(layer).get(label)
            if kind is None:
                return _Asked(f"object {label}", labels=(label,))
            others = [i for i, c in self._classifying.of(layer).items() if c is kind]
            return _Asked(f"“{kind.name}”", labels=tuple(others), kind=kind)
        draft = self._subject.drafts.current
        found = None if draft.is_empty else self._masks.of(draft)
        if found is None:
            return None
        return _Asked("this object", found.mask(draft.candidate))

    # --- classes -------------------------------------------------------------------------

    def classes_here(self) -> list[ObjectClass]:
        """Return the classes that objects of the labels have, if there are at least two."""
        layer = self._labelling.target
        there = set() if layer is None else set(self._classifying.of(layer).values())
        found = [each for each in self._classifying.classes if each in there]
        return found if len(found) > 1 else []

    def set_classes(self, on: bool, only: ObjectClass | None = None) -> None:
        """Give the shown plane's proposals classes, or not; show those of one class only."""
        proposed, here = self._subject.proposed, self._subject.here
        if proposed is None or here is None or self._segmenter.running:
            return
        if not on:
            after = replace(proposed, ranking=None, classed=None)
            self._proposals.replace(*here, after, FILTER, same_labels=True)
            return
        if only is not None and proposed.classed is not None:
            if only in proposed.classed.classes:
                after = replace(proposed, classed=replace(proposed.classed, only=only))
                self._proposals.replace(*here, after, FILTER, same_labels=True)
            return
        scene = self._segmenter.scene()
        sorting = None if scene is None else self._by_class(scene, only)
        if sorting is None:
            self._notify(
                "info", "Give objects of this plane at least two classes first."
            )
            return
        question = Question("classes of proposals", Region.PLANE, sorting)
        self._segmenter.sort(replace(proposed, ranking=None), question)

    def _by_class(
        self, scene: EmbeddedPlane, only: ObjectClass | None = None
    ) -> Sorting | None:
        """Return what sorts proposals into classes; None unless two have objects here."""
        layer, seen = self._labelling.target, self._subject.seen
        if len(self.classes_here()) < 2 or layer is None or seen is None:
            return None
        if self._subject.here != (scene.image, scene.plane):
            return None  # another plane is shown by now
        kinds, examples = dict(self._classifying.of(layer)), self._reader(scene)
        order = list(self._classifying.classes)

        def sorting(found: Proposed) -> Iterator[Proposed | None]:
            there = examples(tuple(kinds))
            given = _masks_of(found)
            groups: dict[ObjectClass, list[int]] = {}
            for label, mask in there.items():
                groups.setdefault(kinds[label], []).append(len(given))
                given.append(mask)
            classes = tuple(each for each in order if each in groups)
            if len(classes) < 2:
                yield found
                return
            objects = yield from _compared(scene, seen, given)
            alike = objects.most_alike([groups[each] for each in classes])
            shown = only if only in classes else None
            classed = Classed(classes, alike[: len(found.proposals)], shown)
            yield replace(found, classed=classed)

        return sorting

    # --- examples ------------------------------------------------------------------------

    def _reader(self, scene: EmbeddedPlane) -> _Examples:
        """Prepare to read masks of committed objects; of a large plane those on the screen."""
        large = is_large(scene.plane.shape)
        region = Region.VIEW if large else Region.PLANE
        part = region_of(region, scene.image, scene.plane, None)
        assert part is not None
        at = None
        with suppress(LabelsError):  # they do not fit the image: there are no examples
            at = self._labelling.outputs.plane(scene.image, scene.plane)
        return _Examples(at, part, scene.plane.shape)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Masks of committed objects, read in the inference thread."""

    at: tuple[Labels, Plane] | None
    part: Look
    shape: tuple[int, int]

    def __call__(self, labels: Sequence[int]) -> Mapping[int, BoxedMask]:
        """Return the masks of those that are there, by id."""
        if self.at is None or not labels:
            return {}
        ids = read_ids(*self.at, self.part.rows, self.part.columns)
        return {
            label: self.part.placed(mask, self.shape)
            for label, mask in _objects(ids, labels)
        }


def _objects(
    ids: npt.NDArray[Any], labels: Sequence[int]
) -> Iterator[tuple[int, BoxedMask]]:
    """Give the masks of those objects that have pixels."""
    from scipy import ndimage as ndi

    wanted = np.unique(np.asarray(labels))
    places = np.clip(np.searchsorted(wanted, ids), 0, len(wanted) - 1)
    numbers = np.where(wanted[places] == ids, places + 1, 0)
    height, width = ids.shape
    for label, box in zip(wanted.tolist(), ndi.find_objects(numbers), strict=False):
        if box is not None:
            rows, columns = box
            mask = ids[box] == label
            yield label, BoxedMask(mask, rows.start, columns.start, (height, width))


def _masks_of(found: Proposed) -> list[BoxedMask]:
    return [found.proposals[number].mask for number in range(len(found.proposals))]


def _compared(
    scene: EmbeddedPlane, seen: SeenPlane, masks: Sequence[BoxedMask]
) -> Generator[None, None, ComparedObjects]:
    """Compare objects by what the model sees in them, one look a step.

    Raises
    ------
    TinySAMError
        If the model does not tell.
    """
    looks: dict[Look, list[int]] = {}
    if scene.embedding is not None:
        looks[Look.whole(scene.plane.shape)] = list(range(len(masks)))
    else:
        grid = seen.pyramid.grids[seen.pyramid.own]
        for number, mask in enumerate(masks):
            looks.setdefault(grid.around(mask.centre), []).append(number)
    features = ObjectFeatures(masks)
    for look, numbers in looks.items():
        embedding = scene.embedding or seen.embedding(scene.predictor, look)
        maps = scene.predictor.feature_maps(embedding)
        if not maps:
            raise TinySAMError("This model cannot compare objects.")
        cut = [look.cut(masks[number]) for number in numbers]
        features.add(maps, embedding, cut, numbers)
        yield None
    return features.compared()
