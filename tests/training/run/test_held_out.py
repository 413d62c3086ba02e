"""Which images choose the best moment and which are reported on: never the same, or it is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysam_training.data import ImageEntry
from tinysam_training.run.held_out import CHOOSING, ENOUGH, hold_out, split_images
from training.small_runs import discs


def entry(name: str) -> ImageEntry:
    return ImageEntry(name, "set", True, lambda: discs(1)[0], name)


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
