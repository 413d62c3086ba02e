"""What is said while runs go on beside the clicks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from napari_tinysam.ui.state.status import Status, StatusKind
from ui.session.tracks.small_movie import opened

if TYPE_CHECKING:
    from desk import Desk

READING = Status(StatusKind.EMBEDDING, "Reading the image…")
READY = Status(StatusKind.READY)
LINKING = Status(StatusKind.LINKING, "Linking: plane 2 of 6")


def in_a_run(desk: Desk) -> Any:
    """Return the status line of a session in which a run goes on."""
    line = desk.session._parts.status_line
    line._runs = lambda: SimpleNamespace(said=True, searching=False)
    return line


def test_a_run_that_says_nothing_does_not_hide_that_the_image_was_read() -> None:
    desk = opened()
    line = in_a_run(desk)
    line.say(READING)
    line.say(READY)
    assert desk.session.status.kind is StatusKind.READY


def test_what_a_run_says_is_said_again_when_the_image_was_read() -> None:
    desk = opened()
    line = in_a_run(desk)
    line.say_beside(LINKING)
    line.say(READING)
    line.say(READY)
    assert desk.session.status == LINKING
    line.say_beside(None)
    assert desk.session.status.kind is StatusKind.READY


def test_a_click_after_cancel_reads_the_image_once_also_while_a_run_goes_on() -> None:
    desk = opened()
    in_a_run(desk)
    desk.session.cancel()
    assert desk.session.status.kind is StatusKind.CANCELLED
    desk.click(70, 70)
    assert desk.session.status.kind is StatusKind.READY
    assert desk.session._parts.embedder.embedding is not None
