"""Corrections of tracks, one by one and in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.volume.corrections import Correction, Kind, Lineage, Place

#: Two tracks through four frames, and one that begins in the last two.
CHAINS = {
    1: [(0, 0), (1, 0), (2, 0), (3, 0)],
    2: [(0, 1), (1, 1), (2, 1), (3, 1)],
    3: [(2, 2), (3, 2)],
}


def corrected(
    *corrections: Correction, parents: dict[int, int] | None = None
) -> Lineage:
    lineage = Lineage.of_chains(CHAINS, parents or {})
    lineage.correct(corrections)
    return lineage


def test_cut() -> None:
    lineage = corrected(Correction(Kind.CUT, ((2, 0),)))
    assert [(0, 0), (1, 0)] in lineage.chains()
    assert [(2, 0), (3, 0)] in lineage.chains()


def test_link_ends_what_was_there() -> None:
    lineage = corrected(Correction(Kind.LINK, ((1, 0), (2, 2))))
    assert lineage.chains() == [
        [(0, 0), (1, 0), (2, 2), (3, 2)],
        CHAINS[2],
        [(2, 0), (3, 0)],
    ]


def test_swap_and_back() -> None:
    swap = Correction(Kind.SWAP, ((2, 0), (2, 1)))
    lineage = corrected(swap)
    assert lineage.chains()[0] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert corrected(swap, swap).chains() == list(CHAINS.values())


def test_swap_with_one_that_begins_there() -> None:
    lineage = corrected(Correction(Kind.SWAP, ((2, 0), (2, 2))))
    assert [(0, 0), (1, 0), (2, 2), (3, 2)] in lineage.chains()
    assert [(2, 0), (3, 0)] in lineage.chains()


def test_divide_and_unite() -> None:
    divide = Correction(Kind.DIVIDE, ((1, 0), (2, 0), (2, 2)))
    lineage = corrected(divide)
    assert [(0, 0), (1, 0)] in lineage.chains()
    assert lineage.mother == {(2, 0): (1, 0), (2, 2): (1, 0)}
    assert corrected(divide, Correction(Kind.UNITE, ((1, 0),))).mother == {}


def test_delete_takes_the_rest_and_leaves_daughters() -> None:
    divide = Correction(Kind.DIVIDE, ((1, 0), (2, 0), (2, 2)))
    lineage = corrected(divide, Correction(Kind.DELETE, ((1, 0),)))
    assert (0, 0) in lineage.places
    assert (1, 0) not in lineage.places
    assert (2, 0) in lineage.places
    assert lineage.mother == {}


def test_places_are_called_otherwise_after_new_measurements() -> None:
    cut = Correction(Kind.CUT, ((2, 0),))
    assert cut.moved({(2, 0): (2, 5)}) == Correction(Kind.CUT, ((2, 5),))
    assert cut.moved({}) is None


def test_follow_goes_through_places_and_ends_there() -> None:
    chain = ((0, 0), (1, 1), (2, 1))
    lineage = corrected(Correction(Kind.FOLLOW, chain))
    assert lineage.chains() == [
        list(chain),
        [(0, 1)],
        CHAINS[1][1:],
        CHAINS[3],
        [(3, 1)],
    ]
    divided = {1: [(0, 0), (1, 0)], 2: [(2, 0), (3, 0)], 3: [(2, 1), (3, 1)]}
    lineage = Lineage.of_chains(divided, {2: 1, 3: 1})
    lineage.correct([Correction(Kind.FOLLOW, ((0, 0), (1, 0)))])
    assert lineage.daughters((1, 0)) == [(2, 0), (2, 1)], "it may divide after that"
    lineage.correct([Correction(Kind.FOLLOW, ((0, 0), (1, 0), (2, 1)))])
    assert lineage.mother == {}


def test_what_was_followed_holds_without_some_places() -> None:
    follow = Correction(Kind.FOLLOW, ((0, 0), (1, 1), (2, 1)))
    moved = follow.moved({(0, 0): (0, 0), (2, 1): (2, 4)})
    assert moved == Correction(Kind.FOLLOW, ((0, 0), (2, 4)))
    lineage = corrected(Correction(Kind.DELETE, ((1, 1),)), follow)
    assert [(0, 0)] in lineage.chains()


places = st.tuples(st.integers(0, 3), st.integers(0, 2))
corrections = st.builds(
    Correction,
    st.sampled_from(Kind),
    st.lists(places, min_size=3, max_size=3, unique=True).map(tuple),
)
COUNT = {
    Kind.CUT: 1,
    Kind.LINK: 2,
    Kind.SWAP: 2,
    Kind.DIVIDE: 3,
    Kind.UNITE: 1,
    Kind.DELETE: 1,
    Kind.FOLLOW: 3,
}


@given(st.lists(corrections, max_size=12))
def test_a_lineage_stays_a_lineage(given_: list[Correction]) -> None:
    lineage = corrected(
        *(Correction(each.kind, each.places[: COUNT[each.kind]]) for each in given_),
    )
    chains = lineage.chains()
    seen: list[Place] = [place for chain in chains for place in chain]
    assert sorted(seen) == sorted(lineage.places)  # each in one track
    ends = {chain[-1] for chain in chains}
    starts = {chain[0] for chain in chains}
    for chain in chains:
        frames = [frame for frame, _ in chain]
        assert frames == sorted(set(frames))  # forwards in time
    for child, mother in lineage.mother.items():
        assert child in starts
        assert mother in ends
        assert mother[0] < child[0]
