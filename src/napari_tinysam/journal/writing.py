"""Appends what is done to a journal, in a thread of its own.

Who notes an action never waits: packing, writing and flushing happen in the thread. A written line
survives the end of the process at once, and a power cut within a second (after a commit, at once).

When the lines have grown, and the user pauses, they are rolled: the labels and earlier actions go
into a snapshot, and a new generation of lines begins. The old ones go once the new ones are there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.copying import differences, kept, read_into
from napari_tinysam.journal.lines import (
    About,
    Action,
    AnyWindow,
    Window,
    about_line,
    action_line,
    size_of,
)
from napari_tinysam.journal.lines_file import LinesFile
from napari_tinysam.journal.reading import (
    SAVED,
    Recovered,
    generations,
    lines_file,
    read_journal,
    snapshot_file,
)
from napari_tinysam.journal.snapshot import Snapshot, write_snapshot
from napari_tinysam.journal.sparse import SparseLabels

#: Bytes of lines after which they are rolled, at least.
_ROLL = 2**20

#: Reading them again keeps Python busy: they are rolled when nothing was done for some seconds, or
#: when they are this many times as long.
_PAUSE, _AT_ONCE = 2.0, 3

#: Seconds without anything to do after which the thread ends.
_REST = 20.0
#: Seconds between a line and its flush to the disk, and between attempts on a full disk.
_FLUSH_AFTER = 0.8
_TRY_AGAIN = 5.0

#: Bytes that may wait for a disk that takes nothing.
_MOST_WAITING = 2**28


@dataclass(frozen=True, eq=False)
class _Noted:
    """An action that waits to be written, and the labels that its windows are found in."""

    action: Action
    at_once: bool
    labels: Any = None


class Journal:
    """The journal of one labels layer, as it is written.

    Parameters
    ----------
    folder : Path
        It exists, and holds no journal but the one that this goes on with.
    about : About or callable
        A callable is called in the thread: identifying an image may take long.
    labels : array-like, optional
        Those that are there; noted actions may change them while the journal begins.
    before : sequence of Window, optional
        What was in boxes of them before these were changed, in order: the journal begins with that.
        It may grow until `has_begun`.
    goes_on : Recovered, optional
        What the folder holds: this goes on with it, instead of `labels` and `unsaved`.
    unsaved : collection of int, optional
        Ids that are in no file, maybe none of what is not saved; None: all is saved.
    on_problem : callable
        Called with a sentence, in the thread, when the disk takes nothing more, and once only.
    roll : int
        Bytes of lines that are rolled.
    """

    def __init__(
        self,
        folder: Path,
        about: About | Callable[[], About],
        labels: Any = None,
        *,
        goes_on: Recovered | None = None,
        before: Sequence[Window] = (),
        unsaved: Collection[int] | None = None,
        on_problem: Callable[[str], None] = lambda text: None,
        roll: int = _ROLL,
    ) -> None:
        self.folder = folder
        self._goes_on = goes_on
        self._find_about = about
        self._unsaved = None if unsaved is None else {int(each) for each in unsaved}
        #: Whether noted actions are lost: the disk took nothing for too long.
        self.failed = False
        self._on_problem = on_problem
        self._roll = self._roll_at = roll
        self._begins_with = kept(labels)
        self._before = before
        self._waiting: deque[_Noted] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._last = 0 if goes_on is None else goes_on.last
        # The last actions in the file, on the disk (-1: it has not begun), and waited for.
        self._written = self._wanted = self._last
        self._done = -1
        self._ending = self._complained = False
        self._file = LinesFile(folder)
        self._flush_at: float | None = None
        self._noted_at = 0.0
        #: Shape and dtype of the labels, if known.
        self.layout: tuple[tuple[int, ...], str] | None = None
        self._thread: threading.Thread | None = None
        with self._changed:
            self._wake()

    @property
    def last(self) -> int:
        """Number of the last noted action."""
        return self._last

    @property
    def has_begun(self) -> bool:
        """Whether the labels that it begins with were read."""
        return self._done >= 0

    def note(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        ids: Sequence[int] = (),
        model: str = "",
        windows: Sequence[AnyWindow] = (),
        step: int = 0,
        at: float | None = None,
        at_once: bool = False,
    ) -> int:
        """Append an action; returns its number at once.

        Parameters
        ----------
        name, arguments, ids, model, windows, step
            See `Action`. Arguments and arrays must not be changed afterwards.
        at : float, optional
            When it was, since the epoch; now if not given.
        at_once : bool
            Flush now, not within a second.
        """
        with self._changed:
            self._last += 1
            action = Action(
                self._last,
                time.time() if at is None else at,
                name,
                dict(arguments or {}),
                tuple(int(each) for each in ids),
                model,
                tuple(windows),
                step,
            )
            self._take(_Noted(action, at_once))
            return self._last

    def compare(self, name: str, labels: Any) -> None:
        """Append what others have changed of the labels, as an action; nothing if that is nothing.

        Parameters
        ----------
        name : str
        labels : array-like
            As they are now; noted actions may change them while they are read.
        """
        with self._changed:
            self._last += 1
            self._take(_Noted(Action(self._last, time.time(), name), True, labels))

    def _take(self, noted: _Noted) -> None:
        """Let an action wait for the thread; the lock is held."""
        self._noted_at = time.monotonic()
        self._waiting_bytes += _nbytes(noted.action)
        self.failed |= self._waiting_bytes > _MOST_WAITING
        if not (self.failed or self._ending):
            self._waiting.append(noted)
            self._wake()

    def saved(self, file: str, through: int) -> None:
        """Note that the labels of action number `through` are in a file."""
        self.note(SAVED, {"file": file, "through": through}, at_once=True)

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until everything noted so far is on disk; returns whether it is."""
        with self._changed:
            number = self._last
            self._wanted = number
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._done >= number or self.failed or self._thread is None,
                timeout,
            )
            return self._done >= number

    def close(self, timeout: float | None = 5.0) -> None:
        """Write what waits, and end; the files stay. Idempotent."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._thread is None, timeout)

    def _wake(self) -> None:
        """Start the thread, if it has ended; the lock is held."""
        if self._thread is None:
            # A daemon: a disk that does not answer must not keep Python alive.
            self._thread = threading.Thread(
                target=self._run, name="tinysam-journal", daemon=True
            )
            self._thread.start()
        self._changed.notify_all()

    # --- in the thread -------------------------------------------------------------------

    def _run(self) -> None:
        """Do what there is to do, then end: a journal that rests has no thread and no file."""
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due, self._patience())
                waiting, ending = list(self._waiting), self._ending
            try:
                if self._done < 0:
                    self._begin()
                self._write(waiting)
                if self._flush_is_due() or (ending and self._written > self._done):
                    self._sync()
                if self._roll_is_due() and not ending:
                    self._begin_next()
            except (FileError, OSError, MemoryError) as error:
                self._complain(error)
                with self._changed:
                    if not self._ending:
                        self._changed.wait_for(lambda: self._ending, _TRY_AGAIN)
                        continue
                    self._rest()
                    return
            with self._changed:
                grown = self._file.size > self._roll_at and not self._ending
                if self._waiting or self._written > self._done or grown:
                    continue
                # To begin a thread for each action would hold up who notes it.
                self._changed.wait_for(lambda: self._waiting or self._ending, _REST)
                if not self._waiting:
                    self._rest()
                    return

    def _rest(self) -> None:
        """Say that the thread ends; the lock is held, so nothing is noted in between."""
        self._file.close()
        self._thread = None
        self._changed.notify_all()

    def _is_due(self) -> bool:
        return (
            self._done < 0
            or bool(self._waiting)
            or self._ending
            or self._flush_is_due()
            or self._roll_is_due()
        )

    def _roll_is_due(self) -> bool:
        rests = time.monotonic() - self._noted_at > _PAUSE
        return self._file.size > self._roll_at * (1 if rests else _AT_ONCE)

    def _flush_is_due(self) -> bool:
        return self._written > self._done and (
            self._wanted > self._done
            or (self._flush_at is not None and time.monotonic() >= self._flush_at)
        )

    def _patience(self) -> float | None:
        times = [] if self._flush_at is None else [self._flush_at]
        if self._file.size > self._roll_at:
            times.append(self._noted_at + _PAUSE)
        return max(0.01, min(times) - time.monotonic()) if times else None

    def _begin(self) -> None:
        """Write the labels that are there, then the first line."""
        try:
            found = self._find_about
            self._find_about = self.about = (
                found if isinstance(found, About) else found()
            )
        except Exception as error:  # whatever reading the image raises
            raise FileError(sentence(error)) from error
        if self._goes_on is not None:
            self._file.generation = generations(self.folder)[0]
            self._roll_over(self._goes_on)
            self._goes_on = None
            self._is_done(self._written)
            return
        labels = SparseLabels(self.about.shape, self.about.dtype)
        if self._begins_with is not None:
            read_into(labels, self._begins_with)
            for window in reversed(self._before):
                labels.write(window.start, window.labels)
        there = bool(labels.packed_chunks())
        if there:
            self._roll_at = max(
                self._roll,
                write_snapshot(
                    snapshot_file(self.folder, 1),
                    Snapshot(labels, [], self._unsaved or set()),
                ),
            )
        clean = self._unsaved is None
        first = about_line(self.about, snapshot=there, number=0, clean=clean)
        self._file.start(1, first)
        self._begins_with, self._before = None, ()
        self._is_done(0)

    def _begin_next(self) -> None:
        """Make a snapshot of what is on disk, and begin the next generation of lines."""
        self._sync()
        self._roll_over(read_journal(self.folder))

    def _roll_over(self, found: Recovered) -> None:
        new = self._file.generation + 1
        size = write_snapshot(
            snapshot_file(self.folder, new),
            Snapshot(found.labels, found.actions, found.unsaved),
        )
        old = self._file.generation
        first = about_line(
            self.about, snapshot=True, number=self._written, clean=not found.changed
        )
        self._file.start(new, first)
        self._roll_at = max(self._roll, size)  # rolling costs as much
        if found.remarks:
            return  # the disk damages what it holds: the old files may still help
        for path in (
            lines_file(self.folder, old),
            snapshot_file(self.folder, old),
        ):
            with suppress(OSError):  # it is not there, or another program reads it
                path.unlink()

    def _write(self, waiting: Sequence[_Noted]) -> None:
        for noted in waiting:
            action = noted.action
            if noted.labels is not None:
                known = read_journal(self.folder).labels
                windows = tuple(differences(known, noted.labels))
                action = replace(action, windows=windows)
            if noted.labels is None or action.windows:
                self._file.append(action_line(action, self.about.dtype))
            with self._changed:
                self._waiting.popleft()
                self._waiting_bytes -= _nbytes(noted.action)
                due = 0.0 if noted.at_once else time.monotonic() + _FLUSH_AFTER
                self._flush_at = (
                    due if self._flush_at is None else min(due, self._flush_at)
                )
            self._written = action.number

    def _sync(self) -> None:
        written = self._written
        self._file.sync()
        self._is_done(written)

    def _is_done(self, number: int) -> None:
        """Say that all actions up to one are on the disk."""
        with self._changed:
            self._flush_at = None
            self._done = number
            self._changed.notify_all()

    def _complain(self, error: BaseException) -> None:
        if not self._complained:
            self._complained = True
            text = sentence(error, "What you do is not kept for the case of a crash")
            self._on_problem(f"{text} Save your labels often.")


def _nbytes(action: Action) -> int:
    return 200 + sum(size_of(window) for window in action.windows)
