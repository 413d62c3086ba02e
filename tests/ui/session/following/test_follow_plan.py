"""Which planes are computed: all that are asked for, none that the user said, each once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.following.plan import Stage, around, between, outwards

MASK = BoxedMask(np.ones((2, 2), bool), 0, 0, (8, 8))
LENGTH = 30

planes = st.sets(st.integers(0, LENGTH - 1), min_size=1, max_size=6)


def computed(stages: list[Stage], label: int) -> list[int]:
    """The planes that stages compute for an object, those of its anchors left out."""
    return sorted(
        plane
        for stage in stages
        if label in stage.anchors
        for plane in range(stage.first, stage.last + 1)
        if plane not in stage.anchors[label]
    )


@given(planes, planes)
def test_outwards_computes_every_other_plane_once(one: set[int], two: set[int]) -> None:
    known = {1: dict.fromkeys(one, MASK), 2: dict.fromkeys(two, MASK)}
    stages = outwards(known, 0, LENGTH - 1)
    for label, anchors in known.items():
        wanted = [at for at in range(LENGTH) if at not in anchors]
        assert computed(stages, label) == wanted
        for stage in stages:
            assert stage.anchors.get(label, anchors), (
                "a stage knows the object somewhere"
            )
            assert set(stage.anchors.get(label, ())) <= set(anchors)


@given(planes, st.data())
def test_a_changed_plane_concerns_the_planes_up_to_its_neighbours(
    anchors: set[int], data: st.DataObject
) -> None:
    changed = data.draw(st.sampled_from(sorted(anchors)))
    stages = around({1: dict.fromkeys(anchors, MASK)}, changed, 0, LENGTH - 1)
    before = max((at for at in anchors if at < changed), default=-1)
    after = min((at for at in anchors if at > changed), default=LENGTH)
    wanted = [at for at in range(before + 1, after) if at != changed]
    assert computed(stages, 1) == wanted


@given(planes, st.data())
def test_only_planes_between_annotated_ones_are_filled(
    annotated: set[int], data: st.DataObject
) -> None:
    ordered = sorted(annotated)
    of_one = data.draw(st.sets(st.sampled_from(ordered), min_size=1))
    known = {1: dict.fromkeys(of_one, MASK), 2: dict.fromkeys(annotated, MASK)}
    stages = between(known, annotated)
    inside = set(range(ordered[0], ordered[-1] + 1)) - annotated
    assert set(computed(stages, 2)) == inside
    for stage in stages:
        for anchors in stage.anchors.values():
            assert anchors
    # An object that a neighbour lacks is not looked for in that neighbour.
    assert not set(computed(stages, 1)) & annotated
