"""The habit: chosen twice, and nothing before."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.state.drafts import ObjectDraft, PointPrompt
from napari_tinysam.ui.state.habit import MaskHabit, is_one_click

CLICK = ObjectDraft(points=(PointPrompt(3.0, 4.0, POSITIVE),))


def after(*noted: tuple[int | None, int]) -> int | None:
    """What objects begin with after these choices and best masks."""
    habit = MaskHabit()
    for chosen, best in noted:
        habit.note(replace(CLICK, candidate=chosen), best)
    return habit.choice


def test_the_same_choice_for_two_objects_is_a_habit() -> None:
    assert after((2, 1)) is None
    assert after((2, 1), (2, 0)) == 2
    assert after((0, 1), (0, 1)) == 0
    # An object whose best mask is that one anyway is no choice, and none against it.
    assert after((2, 1), (None, 2)) is None
    assert after((2, 1), (None, 2), (2, 1)) == 2


def test_another_choice_ends_it() -> None:
    assert after((2, 1), (2, 1), (0, 1)) is None
    assert after((2, 1), (2, 1), (1, 1)) is None
    assert after((2, 1), (2, 1), (None, 1)) is None
    assert after((2, 1), (2, 1), (0, 1), (0, 1)) == 0


@given(st.lists(st.integers(0, 2)))
def test_who_chooses_nothing_sees_no_change(bests: list[int]) -> None:
    assert after(*((None, best) for best in bests)) is None


def test_other_prompts_say_nothing_about_it() -> None:
    habit = MaskHabit()
    box = ObjectDraft(box=(0.0, 0.0, 5.0, 5.0), candidate=2)
    refined = CLICK.with_point(PointPrompt(9.0, 9.0, NEGATIVE))
    for draft in (box, replace(refined, candidate=2)):
        assert not is_one_click(draft)
        habit.note(draft, 1)
        habit.note(draft, 1)
    assert habit.choice is None
    assert is_one_click(CLICK)
    assert not is_one_click(ObjectDraft())
