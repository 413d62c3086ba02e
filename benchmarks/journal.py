"""Kill sessions again and again, and look what is restored; measure a session of 1,000 objects.

``python -m benchmarks.journal kills --kills 200`` kills a scripted session on two images (clicks,
boxes, merges, painting, following, undo) at random moments, restores both, and undoes everything.
``python -m benchmarks.journal session`` commits 1,000 objects by click. Both work without a window,
on a predictor that draws discs, and write into a temporary folder.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    """Print figures; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("kills", "session"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--undo", action="store_true", help="all of the session")
    parser.add_argument("--longest", type=float, default=6.0, help="seconds of a life")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_TINYSAM_JOURNALS"] = folder
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        if chosen.what == "session":
            session(chosen.objects, chosen.undo)
        else:
            sys.exit(kills(chosen.kills, chosen.seed, chosen.longest))


# --- kills ------------------------------------------------------------------------------------


def kills(count: int, seed: int, longest: float) -> bool:
    """Kill `count` sessions; return whether anything was lost or damaged."""
    # Imported once: processes are forked, or most of the time would be importing.
    import scripted_session
    from napari_tinysam.journal.folder import default_folder
    from napari_tinysam.journal.writing import Journal

    chance, problems = random.Random(seed), Counter[str]()
    restored = undone = told = rolled = 0
    lost = [0.0]
    for number in range(count):
        folder = Path(tempfile.mkdtemp(dir=default_folder()))
        os.environ["NAPARI_TINYSAM_JOURNALS"] = str(folder)
        if number % 2:  # every second one rolls often
            Journal.__init__.__kwdefaults__["roll"] = 8_000
        reading, writing = os.pipe()
        life = chance.uniform(0.05, longest)
        child = os.fork()
        if not child:
            os.close(reading)
            _live(scripted_session, chance.randrange(2**31) + number, writing)
        os.close(writing)
        lines, killed = _listen(reading, child, life)
        states = scripted_session.states_of(lines)
        told += len(states)
        rolled += bool(list(folder.glob("*/lines-00000[2-9].jsonl")))
        verdict = _judge(scripted_session, states, killed)
        restored += verdict["restored"]
        undone += verdict["undone"]
        lost.append(verdict["lost"])
        problems.update(verdict["problems"])
        os.environ["NAPARI_TINYSAM_JOURNALS"] = str(folder.parent)
        if verdict["problems"] or number % 20 == 19:
            say(f"{number + 1}: {verdict['problems'] or 'nothing lost'}")
    say(
        f"{count} kills after {told} things done: {restored} images restored ({rolled} sessions "
        f"had rolled), {undone} steps undone to the beginning. Lost at most: "
        f"{max(lost) * 1000:.0f} ms, median {np.median(lost) * 1000:.0f} ms."
    )
    for problem, times in problems.most_common():
        say(f"{times} × {problem}")
    say(f"{sum(problems.values())} problems.")
    return bool(problems)


def _live(scripted_session: Any, seed: int, writing: int) -> None:
    """Work until killed. For the child."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    try:
        scripted_session.run(seed, lambda line: os.write(writing, f"{line}\n".encode()))
    finally:
        os._exit(1)


def _listen(reading: int, child: int, life: float) -> tuple[list[str], float]:
    """Read what a child tells from its first line on for some seconds, then kill it."""
    import select

    content, end = b"", None
    while end is None or time.time() < end:
        wait = 60.0 if end is None else max(0.0, end - time.time())
        if not select.select([reading], [], [], wait)[0]:
            break
        part = os.read(reading, 2**16)
        if not part:
            break
        content += part
        end = end or time.time() + life
    os.kill(child, signal.SIGKILL)
    killed = time.time()
    os.waitpid(child, 0)
    while part := os.read(reading, 2**16):
        content += part
    os.close(reading)
    return content.decode().splitlines(), killed


def _judge(scripted_session: Any, states: Any, killed: float) -> dict[str, Any]:
    """Restore and undo in a child of its own: sessions start threads, and are not forked."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            verdict = scripted_session.judged(states, killed).__dict__
        except BaseException as error:  # noqa: BLE001 - it is told, and counts
            verdict = {"problems": [repr(error)], "restored": 0, "undone": 0, "lost": 0}
        os.write(writing, json.dumps(verdict).encode())
        os._exit(0)
    os.close(writing)
    content = b""
    while part := os.read(reading, 2**16):
        content += part
    os.close(reading)
    os.waitpid(child, 0)
    return json.loads(content)


# --- a long session -----------------------------------------------------------------------------


def session(count: int, whole: bool) -> None:
    """Commit objects by click, then restore them; print what it takes."""
    from journalled_desk import noise, open_queued
    from napari_tinysam.journal.folder import default_folder
    from napari_tinysam.ui.session.journals.recording import Recording

    side = 2048
    spent: dict[str, list[float]] = {}
    for name in ("stepped", "turning", "collect"):
        _timed(Recording, name, spent)
    desk = open_queued(noise(side, side))
    desk.session.set_hover_enabled(False)
    places = [(x, y) for y in range(32, side, 64) for x in range(32, side, 64)][:count]
    before = 0.0
    for number, (x, y) in enumerate(places):
        if number == 100:
            before = _megabytes()  # caches are full
        desk.click(x, y)
        desk.session.set_candidate(0)
        desk.session.commit()
        desk.inference.turn()
        time.sleep(0.005)  # the window waits for the user now and then
    grown = _megabytes() - before
    state = desk.session._parts.subject.state
    target = desk.session.target
    assert target is not None
    journal = desk.session._parts.subject.memory.journals[target]
    assert journal.flush(60)
    time.sleep(4)  # it is rolled when nothing is done
    assert journal.flush(60)
    size = sum(path.stat().st_size for path in default_folder().rglob("*"))
    steps = spent["stepped"] + spent["collect"]
    say(f"{len(desk.ids)} objects: the journal has {size / 1e6:.2f} MB.")
    say(
        f"Thread of the session: {np.median(steps) * 1000:.2f} ms an action, 99 % below "
        f"{np.percentile(steps, 99) * 1000:.2f} ms, longest {max(steps) * 1000:.2f} ms; "
        f"{sum(steps) / len(places) * 1000:.2f} ms an object."
    )
    used = spent["stepped, processor"] + spent["collect, processor"]
    say(
        f"Of that processor time: 99 % below {np.percentile(used, 99) * 1000:.2f} ms, longest "
        f"{max(used) * 1000:.2f} ms, {sum(used) / len(places) * 1000:.2f} ms an object."
    )
    say(
        f"Memory grows by {grown:.1f} MB from object 100 on; the history holds "
        f"{state.history.nbytes / 1e6:.1f} MB in {len(state.history._done)} steps."
    )
    desk.session.close(window_is_gone=True)
    later = open_queued()
    later.viewer.add_layer(noise(side, side))
    begun = time.perf_counter()
    later.inference.turn()
    later.session.recovery.restore()
    later.inference.turn()
    taken = time.perf_counter() - begun
    target = later.session.target
    assert target is not None
    say(f"{len(later.ids)} objects restored in {taken:.2f} s, with looking for them.")
    begun, steps_back = time.perf_counter(), 0
    while later.session.undo_text and (whole or steps_back < 100):
        later.session.undo()
        later.inference.turn()
        steps_back += 1
    taken = time.perf_counter() - begun
    say(f"{steps_back} steps undone in {taken:.1f} s; {len(later.ids)} objects left.")
    later.session.give_up_unsaved()
    later.session.close(window_is_gone=True)


def _timed(kind: type, name: str, spent: dict[str, list[float]]) -> None:
    """Note how long each call of a method takes."""
    method, times = getattr(kind, name), spent.setdefault(name, [])
    processor = spent.setdefault(f"{name}, processor", [])

    def timed(*arguments: Any, **options: Any) -> Any:
        begun, used = time.perf_counter(), time.thread_time()
        try:
            return method(*arguments, **options)
        finally:
            times.append(time.perf_counter() - begun)
            processor.append(time.thread_time() - used)

    setattr(kind, name, timed)


def _megabytes() -> float:
    """Return the memory of this process (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
