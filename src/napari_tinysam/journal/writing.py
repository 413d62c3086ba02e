"""Appends what is done to a journal, in a thread of its own.

Who notes an action never waits: packing, writing and flushing happen in the thread. A written line
survives the end of the process at once, and a power cut within a second (after a commit, at once).

When the lines have grown, they are rolled: the labels and earlier actions go into a snapshot, and a
new generation of lines begins. The old ones go once the new ones are on disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.lines import (
    About,
    Action,
    Window,
    about_line,
    action_line,
)
from napari_tinysam.journal.reading import (
    SAVED,
    lines_file,
    read_journal,
    snapshot_file,
)
from napari_tinysam.journal.snapshot import Snapshot, write_snapshot
from napari_tinysam.journal.sparse import SparseLabels

#: Bytes of lines after which they are rolled, at least.
_ROLL = 2**20

#: Seconds between a line and its flush to the disk, and between attempts on a full disk.
_FLUSH_AFTER = 0.8
_TRY_AGAIN = 5.0

#: Bytes that may wait for a disk that takes nothing.
_MOST_WAITING = 2**28

#: Labels up to this many bytes are copied when a journal begins; the thread reads larger ones.
_COPIED = 2**22

#: Values of labels that are read at once.
_READ_AT_ONCE = 2**22


class Journal:
    """The journal of one labels layer, as it is written.

    Parameters
    ----------
    folder : Path
        It exists, and holds no journal.
    about : About or callable
        A callable is called in the thread: identifying an image may take long.
    labels : array-like, optional
        The labels that are there already; they may be changed while the journal begins, by actions
        that are noted.
    unsaved : collection of int, optional
        Ids that are in no file, maybe none although something is not saved; None: all is saved.
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
        unsaved: Collection[int] | None = None,
        on_problem: Callable[[str], None] = lambda text: None,
        roll: int = _ROLL,
    ) -> None:
        self.folder = folder
        self._find_about = about
        self._unsaved = None if unsaved is None else {int(each) for each in unsaved}
        #: Whether noted actions are lost: the disk took nothing for too long.
        self.failed = False
        self._on_problem = on_problem
        self._roll = self._roll_at = roll
        self._begins_with = _kept(labels)
        self._waiting: deque[tuple[Action, bool]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._last = 0
        # The last actions that are in the file, flushed to the disk, and waited for.
        # None is flushed before the journal has begun: -1.
        self._written = self._wanted = 0
        self._done = -1
        self._ending = self._complained = False
        self._generation = 0
        self._file: BinaryIO | None = None
        self._whole = 0  # bytes of the file up to its last whole line
        self._flush_at: float | None = None
        self._thread: threading.Thread | None = None
        with self._changed:
            self._wake()

    @property
    def last(self) -> int:
        """Number of the last noted action; 0 at first."""
        return self._last

    def note(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        ids: Sequence[int] = (),
        model: str = "",
        windows: Sequence[Window] = (),
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
            When it was, in seconds since the epoch; now if not given.
        at_once : bool
            Flush to the disk now, not within a second.
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
            self._waiting_bytes += _nbytes(action)
            if self._waiting_bytes > _MOST_WAITING:
                self.failed = True
            if not (self.failed or self._ending):
                self._waiting.append((action, at_once))
                self._wake()
            return self._last

    def saved(self, file: str, through: int) -> None:
        """Note that the labels as they were after action number `through` are in a file."""
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
        """Do what there is to do, then end: a journal that rests has no thread and no open file."""
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
                if self._whole > self._roll_at and not ending:
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
                if not self._waiting and self._written <= self._done:
                    self._rest()
                    return

    def _rest(self) -> None:
        """Say that the thread ends; the lock is held, so nothing is noted in between."""
        self._close_file()
        self._thread = None
        self._changed.notify_all()

    def _is_due(self) -> bool:
        begun = self._done >= 0
        return not begun or bool(self._waiting) or self._ending or self._flush_is_due()

    def _flush_is_due(self) -> bool:
        return self._written > self._done and (
            self._wanted > self._done
            or (self._flush_at is not None and time.monotonic() >= self._flush_at)
        )

    def _patience(self) -> float | None:
        if self._flush_at is None:
            return None
        return max(0.0, self._flush_at - time.monotonic())

    def _begin(self) -> None:
        """Write the labels that are there, then the first line."""
        try:
            found = self._find_about
            self._find_about = self.about = (
                found if isinstance(found, About) else found()
            )
        except Exception as error:  # whatever reading the image raises
            raise FileError(sentence(error)) from error
        labels = SparseLabels(self.about.shape, self.about.dtype)
        if self._begins_with is not None:
            _read_into(labels, self._begins_with)
        there = bool(labels.packed_chunks())
        if there:
            self._roll_at = self._limit(
                write_snapshot(
                    snapshot_file(self.folder, 1),
                    Snapshot(labels, [], self._unsaved or set()),
                )
            )
        self._start(1, snapshot=there, number=0, clean=self._unsaved is None)
        self._begins_with = None
        with self._changed:
            self._done = 0
            self._changed.notify_all()

    def _begin_next(self) -> None:
        """Make a snapshot of what is on disk, and begin the next generation of lines."""
        self._sync()
        found = read_journal(self.folder)
        new = self._generation + 1
        size = write_snapshot(
            snapshot_file(self.folder, new),
            Snapshot(found.labels, found.actions, found.unsaved),
        )
        old = self._generation
        self._start(new, snapshot=True, number=self._done, clean=not found.changed)
        self._roll_at = self._limit(size)
        if found.remarks:
            return  # the disk damages what it holds: the old files may still help
        for path in (
            lines_file(self.folder, old),
            snapshot_file(self.folder, old),
        ):
            with suppress(OSError):  # it is not there, or another program reads it
                path.unlink()

    def _limit(self, snapshot: int) -> int:
        """Return the bytes of lines to roll at: rolling costs as much as its snapshot is long."""
        return max(self._roll, snapshot)

    def _start(
        self, generation: int, *, snapshot: bool, number: int, clean: bool
    ) -> None:
        """Begin a file of lines; the one before is left once this one is on the disk."""
        line = about_line(self.about, snapshot=snapshot, number=number, clean=clean)
        path = lines_file(self.folder, generation)
        # Unbuffered: what is written is with the operating system, and survives this process.
        file = open(path, "wb", buffering=0)  # noqa: SIM115 - it stays open
        try:
            _write_all(file, line)
            os.fsync(file.fileno())
        except OSError:
            file.close()
            with suppress(OSError):
                path.unlink()
            raise
        self._close_file()
        self._file, self._whole, self._generation = file, len(line), generation

    def _opened(self) -> BinaryIO:
        if self._file is None:
            path = lines_file(self.folder, self._generation)
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - until the thread ends
            self._file.seek(self._whole)
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, waiting: Sequence[tuple[Action, bool]]) -> None:
        for action, at_once in waiting:
            line = action_line(action, self.about.dtype)
            try:
                _write_all(self._opened(), line)
            except OSError:
                with suppress(OSError):  # half a line would spoil the next one
                    self._opened().truncate(self._whole)
                    self._opened().seek(self._whole)
                raise
            self._whole += len(line)
            with self._changed:
                self._waiting.popleft()
                self._waiting_bytes -= _nbytes(action)
                due = 0.0 if at_once else time.monotonic() + _FLUSH_AFTER
                self._flush_at = (
                    due if self._flush_at is None else min(due, self._flush_at)
                )
            self._written = action.number

    def _sync(self) -> None:
        written = self._written
        os.fsync(self._opened().fileno())
        with self._changed:
            self._flush_at = None
            self._done = written
            self._changed.notify_all()

    def _complain(self, error: BaseException) -> None:
        if not self._complained:
            self._complained = True
            text = sentence(error, "What you do is not kept for the case of a crash")
            self._on_problem(f"{text} Save your labels often.")


def _kept(labels: Any) -> Any:
    """Copy labels, if that takes no time."""
    if isinstance(labels, np.ndarray) and labels.nbytes <= _COPIED:
        return labels.copy()
    return labels


def _read_into(labels: SparseLabels, source: Any) -> None:
    """Copy labels in parts of rows of the first axes that are not too large."""
    shape = labels.shape
    axis, inner = 0, int(np.prod(shape[1:], dtype=np.int64))
    while inner > _READ_AT_ONCE and axis < len(shape) - 2:
        axis += 1
        inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    rows = max(1, _READ_AT_ONCE // max(inner, 1))
    for outer in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], rows):
            part = np.asarray(source[(*outer, slice(first, first + rows))])
            if part.any():
                start = (*outer, first, *(0 for _ in shape[axis + 1 :]))
                labels.write(start, part[(None,) * axis])


def _nbytes(action: Action) -> int:
    return 200 + sum(window.labels.nbytes for window in action.windows)


def _write_all(file: Any, content: bytes) -> None:
    """Write all of it: without a buffer a call may write a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
