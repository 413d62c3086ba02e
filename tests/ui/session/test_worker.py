"""The inference thread: what waits is replaced, what runs is delivered, what fails is reported."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from napari_tinysam.ui.session.worker import InferenceThread, Lane

Mailbox = queue.Queue[Callable[[], None]]


@pytest.fixture
def mailbox() -> Mailbox:
    return queue.Queue()


@pytest.fixture
def thread(mailbox: Mailbox) -> Iterator[InferenceThread]:
    made = InferenceThread(mailbox.put)
    yield made
    made.shutdown()
    made.join(5)


def fail(error: Any) -> None:
    raise AssertionError(error)


def hold(thread: InferenceThread, done: list[Any]) -> threading.Event:
    """Keep the thread busy until the returned event is set."""
    started, gate = threading.Event(), threading.Event()

    def job() -> str:
        started.set()
        assert gate.wait(5)
        return "held"

    thread.submit(Lane.EMBED, job, done.append, fail)
    assert started.wait(5)
    return gate


def test_waiting_jobs_of_a_lane_are_replaced_but_the_running_one_is_delivered(
    thread: InferenceThread, mailbox: Mailbox
) -> None:
    done: list[Any] = []
    gate = hold(thread, done)
    for number in range(20):
        thread.submit(Lane.HOVER, lambda n=number: n, done.append, fail)  # type: ignore[misc]
    thread.submit(Lane.PROMPT, lambda: "prompt", done.append, fail)
    gate.set()
    for _ in range(3):
        mailbox.get(timeout=5)()
    assert done == ["held", "prompt", 19]  # prompts before hovering
    assert mailbox.empty()


def test_results_are_delivered_not_called_from_the_thread(
    thread: InferenceThread, mailbox: Mailbox
) -> None:
    where: list[int] = []
    thread.submit(
        Lane.PROMPT, lambda: None, lambda _: where.append(threading.get_ident()), fail
    )
    mailbox.get(timeout=5)()
    assert where == [threading.get_ident()]


def test_a_failing_job_is_reported_and_the_thread_goes_on(
    thread: InferenceThread, mailbox: Mailbox
) -> None:
    errors: list[Exception] = []
    thread.submit(Lane.PROMPT, lambda: 1 / 0, fail, errors.append)
    mailbox.get(timeout=5)()
    assert isinstance(errors[0], ZeroDivisionError)
    done: list[Any] = []
    thread.submit(Lane.PROMPT, lambda: 5, done.append, fail)
    mailbox.get(timeout=5)()
    assert done == [5]


def test_dropped_jobs_do_not_run(thread: InferenceThread, mailbox: Mailbox) -> None:
    done: list[Any] = []
    gate = hold(thread, done)
    thread.submit(Lane.HOVER, lambda: "hover", done.append, fail)
    thread.drop(Lane.HOVER)
    gate.set()
    mailbox.get(timeout=5)()
    thread.submit(Lane.PROMPT, lambda: "prompt", done.append, fail)
    mailbox.get(timeout=5)()
    assert done == ["held", "prompt"]


def test_shutdown_delivers_nothing_more(
    thread: InferenceThread, mailbox: Mailbox
) -> None:
    done: list[Any] = []
    gate = hold(thread, done)
    thread.submit(Lane.PROMPT, lambda: "prompt", done.append, fail)
    thread.shutdown()
    gate.set()
    thread.join(5)
    assert mailbox.empty()
    thread.submit(Lane.PROMPT, lambda: "late", done.append, fail)
    assert done == []


def test_an_idle_thread_keeps_no_result_alive(
    thread: InferenceThread, mailbox: Mailbox
) -> None:
    class Big:
        pass

    kept: list[weakref.ref[Big]] = []

    def job() -> Big:
        big = Big()
        kept.append(weakref.ref(big))
        return big

    thread.submit(Lane.EMBED, job, lambda _: None, fail)
    mailbox.get(timeout=5)()
    thread.submit(Lane.PROMPT, lambda: None, lambda _: None, fail)
    mailbox.get(timeout=5)()
    assert kept[0]() is None


def test_what_is_ahead_waits_until_all_has_been_quiet(
    thread: InferenceThread, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_tinysam.ui.session.worker._QUIET", 0.05)
    done: list[Any] = []
    gate = hold(thread, done)
    thread.submit(Lane.AHEAD, lambda: "ahead", done.append, fail)
    thread.submit(Lane.HOVER, lambda: "hover", done.append, fail)
    gate.set()
    for _ in range(3):
        mailbox.get(timeout=5)()
    assert done == ["held", "hover", "ahead"]


def test_what_is_ahead_does_not_begin_before(
    thread: InferenceThread, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_tinysam.ui.session.worker._QUIET", 3600.0)
    done: list[Any] = []
    thread.submit(Lane.AHEAD, lambda: "ahead", done.append, fail)
    thread.submit(Lane.HOVER, lambda: "hover", done.append, fail)
    mailbox.get(timeout=5)()
    assert done == ["hover"]
    thread.drop(Lane.AHEAD)
    thread.submit(Lane.AHEAD, lambda: "ahead", done.append, fail)
    thread.shutdown()  # is not held up
    thread.join(5)
    assert mailbox.empty()
