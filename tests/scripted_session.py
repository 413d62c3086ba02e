"""A session that does something new all the time, to be killed, and what must be left of it.

Run as a program it works on two images, and writes a line of JSON after each thing it did.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from desk import noise
from journalled_desk import open_queued

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from desk import Desk

#: Name and shape of the images; the second is a stack.
PLANE, STACK = "plane", "stack"
_SHAPES = {PLANE: (200, 300), STACK: (4, 120, 160)}


def image_of(name: str, seed: int = 1) -> Image:
    axes = ("z", "y", "x")[-len(_SHAPES[name]) :]
    return noise(*_SHAPES[name], seed=seed, name=name, axis_labels=axes)


@dataclass(frozen=True)
class State:
    """What is known after something was done.

    Parameters
    ----------
    time : float
        Seconds since the epoch.
    image : str
    number : int
        Of the last action in the journal.
    digest : str
        Of the labels.
    steps : int
        That can be undone.
    """

    time: float
    image: str
    number: int
    digest: str
    steps: int


def digest(labels: Any) -> str:
    return hashlib.sha1(np.ascontiguousarray(labels, np.uint32).tobytes()).hexdigest()


def run(seed: int, tell: Callable[[str], None], count: int = 10**9) -> None:
    """Do `count` things, and tell the `State` after each in JSON."""
    chance = random.Random(seed)
    desk = open_queued(image_of(PLANE), image_of(STACK))
    for _ in range(count):
        _do_something(desk, chance)
        desk.inference.turn()
        target = desk.session.target
        if target is None:
            continue
        state = desk.session._parts.subject.state
        journal = desk.session._parts.subject.memory.journals.get(target)
        told = State(
            time.time(),
            desk.image.name,
            0 if journal is None else journal.last,
            digest(target.data),
            len(state.history._done),
        )
        tell(json.dumps(told.__dict__))


def _do_something(desk: Desk, chance: random.Random) -> None:
    session, viewer = desk.session, desk.viewer
    height, width = _SHAPES[desk.image.name][-2:]

    def place() -> tuple[int, int]:
        return chance.randrange(10, width - 10), chance.randrange(10, height - 10)

    def commit() -> None:
        desk.click(*place())
        session.commit()

    def box() -> None:
        x, y = chance.randrange(width - 40), chance.randrange(height - 40)
        desk.box(x, y, x + 30, y + 25)
        session.commit()

    def on_object(then: Callable[[], None]) -> None:
        xy = _object_place(desk, chance)
        if xy is not None:
            session.clear()
            session.set_edit_mode(True)
            desk.click(*xy)
            session.set_edit_mode(False)
            then()

    def refine() -> None:
        desk.click(*place())
        session.commit()

    def merge() -> None:
        session.merge_objects()
        desk.click(*(_object_place(desk, chance) or place()))

    def paint() -> None:
        if session.target is not None:
            x, y = place()
            at = [*viewer.dims.current_step[:-2], y, x][-session.target.ndim :]
            session.target.paint(at, chance.randrange(20))

    def change() -> None:
        session.set_image(chance.choice([viewer.layers[PLANE], viewer.layers[STACK]]))
        viewer.dims.set_current_step(0, chance.randrange(4))

    def follow() -> None:
        xy = _object_place(desk, chance)
        if desk.image.name == STACK and xy is not None:
            session.hover_at(desk.world(*xy))
            session.follow_object()

    things = [commit, commit, box, lambda: on_object(refine), paint, session.undo]
    things += [session.redo, lambda: on_object(session.delete_object), change]
    things += [lambda: on_object(merge), follow, lambda: desk.click(*place())]
    chance.choice(things)()


def _object_place(desk: Desk, chance: random.Random) -> tuple[int, int] | None:
    """Return a place in an object of the shown plane."""
    target, plane = desk.session.target, desk.session.shown_plane
    if target is None or plane is None:
        return None
    rows, columns = np.nonzero(np.asarray(target.data)[plane.cut()])
    if not rows.size:
        return None
    at = chance.randrange(rows.size)
    return int(columns[at]), int(rows[at])


@dataclass
class Verdict:
    """What was found after a process was killed.

    Parameters
    ----------
    problems : list of str
    restored : int
        Images.
    undone : int
        Steps.
    lost : float
        Seconds from the first thing that is not there to the end of the process.
    """

    problems: list[str]
    restored: int = 0
    undone: int = 0
    lost: float = 0.0


def judged(states: Sequence[State], killed: float) -> Verdict:
    """Restore what a process left, compare it with what it had told, and undo everything.

    Parameters
    ----------
    states : sequence of State
    killed : float
        When it was killed, in seconds since the epoch.
    """
    verdict = Verdict([])
    stranger = open_queued(image_of(PLANE, seed=7))
    if stranger.session.recovery.offer is not None:
        verdict.problems.append("another image is offered something")
    for name in (PLANE, STACK):
        own = [state for state in states if state.image == name]
        _judge(name, own, killed, verdict)
    return verdict


def _judge(name: str, states: Sequence[State], killed: float, verdict: Verdict) -> None:
    desk = open_queued(image_of(name))
    recovery = desk.session.recovery
    offer = recovery.offer
    if offer is None:
        if any(state.number and killed - state.time > 1 for state in states):
            verdict.problems.append(f"{name}: nothing is offered")
        return
    found = offer.found
    damaged = [each for each in found.remarks if "being written" not in each]
    verdict.problems += [f"{name}: {remark}" for remark in damaged]
    if not offer.has_labels:
        if any(state.number and killed - state.time > 1 for state in states):
            verdict.problems.append(f"{name}: only prompts are offered")
        recovery.restore()
        desk.inference.turn()
        verdict.restored += 1
        _undo_all(desk, verdict)
        if desk.session.uncommitted_count or not offer.drafts:
            verdict.problems.append(f"{name}: prompts are not as they were")
        desk.session.give_up_unsaved()
        desk.session.close(window_is_gone=True)
        return
    last = found.last
    lost = [state for state in states if state.number > last]
    verdict.lost = max([verdict.lost, *(killed - state.time for state in lost[:1])])
    if lost and killed - lost[0].time > 1:
        verdict.problems.append(f"{name}: more than a second is lost")
    recovery.restore()
    desk.inference.turn()
    target = desk.session.target
    assert target is not None
    verdict.restored += 1
    there = [state for state in states if state.number <= last]
    depth = None
    if there and there[-1].number == last:
        depth = there[-1].steps
        if digest(target.data) != there[-1].digest:
            verdict.problems.append(f"{name}: other labels than at action {last}")
    steps = _undo_all(desk, verdict)
    if np.asarray(target.data).any():
        verdict.problems.append(f"{name}: undo does not reach the beginning")
    if depth is not None and depth != steps:
        verdict.problems.append(f"{name}: {steps} steps instead of {depth}")
    desk.session.give_up_unsaved()
    desk.session.close(window_is_gone=True)


def _undo_all(desk: Desk, verdict: Verdict) -> int:
    steps = 0
    while desk.session.undo_text:
        desk.session.undo()
        desk.inference.turn()
        steps += 1
    verdict.undone += steps
    return steps


def states_of(lines: Sequence[str]) -> list[State]:
    """Read what a process told; the last line may be cut."""
    states = []
    for line in lines:
        try:
            states.append(State(**json.loads(line)))
        except ValueError:
            break
    return states


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(int(sys.argv[1]), _say)
