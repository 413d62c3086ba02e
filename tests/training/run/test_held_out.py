"""Which images choose the best moment and which are reported on: never the same, or it is said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysam_training.data import ImageEntry
from tinysam_training.labelled_image import LabelledImage, relabelled
from tinysam_training.run.held_out import (
    CHOOSING,
    ENOUGH,
    count_images,
    hold_out,
    split_images,
)
from tinysam_training.run.seen import SEEN, Seen
from training.small_runs import discs


def one_object() -> LabelledImage:
    labels = np.zeros((20, 20), np.int32)
    labels[5:9, 5:9] = 1
    return LabelledImage.from_arrays("one", "set", np.uint8(labels), labels)


def entry(name: str, *part_of: str) -> ImageEntry:
    """Too few objects for two parts; its pixels are its name."""
    return ImageEntry(name, "set", True, one_object, name, part_of, name)


def entries(count: int, kind: str = "train") -> list[ImageEntry]:
    return [entry(f"{kind}{number}") for number in range(count)]


def names(images: list[ImageEntry]) -> set[str]:
    return {image.name for image in images}


@given(st.integers(2, 60), st.integers(0, 5))
def test_a_fifth_is_held_out(number: int, seed: int) -> None:
    images = entries(number)
    train, held = hold_out(images, seed)
    assert len(held) == max(1, round(number / 5))
    assert sorted(names(train + held)) == sorted(names(images))
    assert hold_out(images, seed) == (train, held)


def test_the_seed_chooses_what_is_held_out() -> None:
    images = entries(20)
    assert len({hold_out(images, seed)[1][0].name for seed in range(8)}) > 2


def test_a_single_image_is_both() -> None:
    only = [entry("0")]
    assert hold_out(only) == (only, only)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_what_is_reported_chose_nothing_or_it_is_said(
    train: int, val: int, test: int, seed: int
) -> None:
    given_images = entries(train), entries(val, "val"), entries(test, "test")
    split = split_images(*given_images, seed)
    assert split.train
    assert split.choosing
    assert split.reported
    learnt, choosing, reported = map(
        names, (split.train, split.choosing, split.reported)
    )
    assert learnt | choosing | reported == set().union(*map(names, given_images))
    assert not learnt & choosing or train == 1
    # Never is anything trained on that was held out.
    assert learnt <= names(given_images[0])
    if learnt & reported:
        assert "learnt from the only image" in split.caveat
    elif choosing & reported:
        assert "same images chose the best moment" in split.caveat
        assert "for choosing the best moment and for the figures" in split.text()
    else:
        assert split.caveat == ""
        assert f"{len(reported)} for the figures" in split.text()
    again = split_images(*given_images, seed)
    assert (again.train, again.choosing, again.reported) == (
        split.train,
        split.choosing,
        split.reported,
    )


def test_val_chooses_where_test_is_there_too() -> None:
    split = split_images(entries(3), entries(1, "val"), entries(2, "test"))
    assert names(split.choosing) == {"val0"}
    assert names(split.reported) == {"test0", "test1"}
    assert len(split.train) == 3


def test_an_image_of_both_folders_is_reported_on_only() -> None:
    both = entry("both")
    split = split_images(entries(3), [both, entry("val")], [both, entry("test")])
    assert names(split.choosing) == {"val"}


@pytest.mark.parametrize("folder", ["val", "test"])
def test_one_folder_of_enough_images_is_parted(folder: str) -> None:
    held = {folder: entries(ENOUGH, folder)}
    split = split_images(entries(9), **held)
    assert len(split.train) == 9
    assert len(split.choosing) == ENOUGH // 2
    assert len(split.reported) == ENOUGH - ENOUGH // 2
    many = split_images(entries(9), **{folder: entries(30, folder)})
    assert len(many.choosing) == CHOOSING  # validation looks at no more


def test_with_few_test_images_a_part_of_many_training_images_chooses() -> None:
    split = split_images(entries(10), test=entries(ENOUGH - 1, "test"))
    assert len(split.reported) == ENOUGH - 1
    assert len(split.train) == 8
    assert not split.caveat


def test_ten_images_alone_say_that_the_same_ones_chose() -> None:
    split = split_images(entries(10))
    assert (len(split.train), len(split.reported)) == (8, 2)
    assert split.choosing == split.reported
    assert split.caveat
    assert not split_images(entries(20)).caveat


# ----------------------------------------------------------------- planes and tiles


def planes(image: str, count: int, tiles: int = 1) -> list[ImageEntry]:
    return [
        entry(f"{image}-{plane:03d}-{tile}", image, f"plane {plane}")
        for plane in range(count)
        for tile in range(tiles)
    ]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 3))
def test_planes_of_one_image_are_never_on_both_sides_unless_it_is_said(
    counts: list[int], seed: int
) -> None:
    everything = [
        each for n, count in enumerate(counts) for each in planes(str(n), count)
    ]
    split = split_images(everything, seed=seed)
    learnt = {each.image for each in split.train}
    shared = learnt & {each.image for each in (*split.choosing, *split.reported)}
    assert bool(shared) == ("a part of an image" in split.caveat)
    if shared:  # one image is more than half of all
        assert max(counts) > sum(counts) / 2
    else:
        held = count_images(everything) - len(learnt)
        assert 1 <= held <= max(1, round(len(counts) / 5))
    assert len(split.train) >= len(everything) // 2


def test_of_a_stack_the_last_planes_are_held_out_and_it_is_said() -> None:
    split = split_images(planes("stack", 12, tiles=2))
    held = {each.part_of[1] for each in split.reported}
    assert held == {"plane 9", "plane 10", "plane 11"}
    assert not held & {each.part_of[1] for each in split.train}
    assert len(split.train) == 18
    assert "a part of an image that the model learnt from" in split.caveat
    assert split.text().startswith("A part of stack is held out")


def test_of_a_large_plane_the_last_tiles_are_held_out() -> None:
    split = split_images(planes("slide", 1, tiles=8))
    assert [each.name for each in split.reported] == ["slide-000-6", "slide-000-7"]


def test_of_a_single_image_one_side_is_held_out_and_it_is_said() -> None:
    only = ImageEntry("only", "set", True, lambda: discs(1)[0], "only")
    split = split_images([only])
    assert names(split.train) == {"only, larger part"}
    assert names(split.reported) == {"only, smaller part"}
    assert "a part of an image that the model learnt from" in split.caveat


# ----------------------------------------------------------------- another round


def after(split: object, seen: Seen) -> Seen:
    known = json.loads(split.notes[SEEN])  # type: ignore[attr-defined]
    return Seen(frozenset(known["learnt"]), frozenset(known["held_out"]))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=5), st.integers(0, 3))
def test_the_start_has_never_learnt_from_what_is_held_out(
    growth: list[int], seed: int
) -> None:
    """Round after round with more images, each beginning with the model before."""
    seen, images = Seen(), entries(5)
    for new in growth:
        split = split_images(images, seed=seed, seen=seen)
        assert not any(map(seen.has_learnt, [*split.choosing, *split.reported]))
        assert "had learnt from the held-out images" not in split.caveat
        seen = after(split, seen)
        assert {each.name for each in split.train} <= seen.learnt
        assert not seen.learnt & seen.held_out
        images = [*entries(new, f"new{len(images)}-"), *images]


def test_an_image_once_held_out_stays_so() -> None:
    first = split_images(entries(5))
    seen = after(first, Seen())
    more = [*entries(4, "more"), *entries(5)]
    for seed in range(5):
        second = split_images(more, seed=seed, seen=seen)
        assert names(first.reported) <= names(second.reported)
    # Its labels may have been corrected: what counts are the pixels.
    corrected = [replace(each, fingerprint=f"{each.name}'") for each in more]
    assert names(split_images(corrected, seen=seen).reported) >= names(first.reported)


def test_where_the_start_has_learnt_from_all_images_it_is_said() -> None:
    seen = Seen(frozenset(names(entries(5))))
    split = split_images(entries(5), seen=seen)
    assert "had learnt from the held-out images" in split.caveat
    assert "had learnt from the held-out images" not in split_images(entries(5)).caveat


def test_a_single_image_is_cut_where_it_was_cut_before() -> None:
    only = ImageEntry("only", "set", True, lambda: discs(1)[0], "a", (), "key")
    first = split_images([only])
    seen = after(first, Seen())

    def half() -> LabelledImage:
        image = discs(1)[0]
        image.labels[:, 256:] = 0  # fewer objects lie elsewhere
        return LabelledImage(
            image.name,
            image.dataset,
            image.rgb,
            np.stack([relabelled(image.labels[0])]),
        )

    corrected = replace(only, fingerprint="b")
    again = split_images([corrected], seen=seen)
    assert again.reported[0].pixels == first.reported[0].pixels
    assert "had learnt" not in again.caveat
    # Another cut would show what was learnt from.
    other = split_images([replace(only, read=half)], seen=seen)
    assert other.reported[0].pixels != first.reported[0].pixels
    assert "had learnt from the held-out images" in other.caveat


def test_of_a_stack_that_grew_planes_are_held_out_that_were_not_learnt_from() -> None:
    seen = after(split_images(planes("stack", 8)), Seen())
    split = split_images(planes("stack", 8), seen=seen)
    assert [e.part_of[1] for e in split.reported] == ["plane 6", "plane 7"]
    # Planes in front of those that it has learnt from.
    front = [entry(f"front {n}", "stack", f"front plane {n}") for n in range(3)]
    late = planes("stack", 6)
    split = split_images([*front, *late], seen=seen)
    assert names(split.reported) <= names(front)
