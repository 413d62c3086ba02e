"""Auto-segmentation of image files beside the viewer, by ``napari-tinysam auto``.

The batch is a process of its own that gives way to napari: annotating goes on at full speed.
It goes on where an earlier one stopped, in whatever way.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_tinysam.background import start_thread
from napari_tinysam.errors import sentence
from napari_tinysam.files.formats.ome_zarr import is_zarr
from napari_tinysam.journal.running import FILES, Running, RunningNotes
from napari_tinysam.ui.session.auto.batch_process import Batch, BatchProcess
from napari_tinysam.ui.session.auto.opening import FileResult, ReadResult, read_result
from napari_tinysam.ui.state.time_left import in_words

if TYPE_CHECKING:
    from napari_tinysam.everything import LabelSettings
    from napari_tinysam.ui.session.embedding.loading import Notify

#: Files that are named in a sentence.
_NAMED = 5

#: Letters of a command line; Windows takes 32,767.
_LONGEST = 30_000

_DONE = {"written": "segmented", "completed": "segmented", "there": "done before"}


@dataclass(frozen=True)
class ModelChoice:
    """With which model the files are segmented, and where it runs."""

    name: str = "default"
    device: str = "auto"
    precision: str = "auto"


class FilesRun:
    """One batch at a time.

    Parameters
    ----------
    post : callable
        Runs a callable soon on the session's thread, from any thread.
    notify : callable
        ``notify(level, text)``.
    start : callable
        Starts a command.

    Attributes
    ----------
    paths : tuple of Path
        The folder, or the files, that the user chose.
    output : Path or None
        Where results go; None: beside the images.
    channel : int or None
        Which channel is segmented; None: as the files say.
    found : int or None
        How many images there are; None until they are counted.
    results : list of FileResult
        Of the files that are done.
    fraction : float or None
        How much is done.
    text : str
        What it is doing, or how it ended.
    changed : Signal
        Emitted when any of this changed.
    """

    changed = Signal()

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        start: Callable[[Sequence[str]], Batch] | None = None,
    ) -> None:
        self._post = post
        self._notify = notify
        self._start = start or BatchProcess
        self._batch: Batch | None = None
        self._notes = RunningNotes()
        self._note: Running | None = None
        self._cancelled = self._closed = False
        self._part = 0.0
        self._now = ""  # the file and plane at work
        self.paths: tuple[Path, ...] = ()
        self.output: Path | None = None
        self.channel: int | None = None
        self.found: int | None = None
        self.results: list[FileResult] = []
        self.fraction: float | None = None
        self.text = ""

    @property
    def running(self) -> bool:
        """Whether a batch goes on."""
        return self._batch is not None

    @property
    def cancelled(self) -> bool:
        """Whether the user has stopped the last batch."""
        return self._cancelled

    @property
    def folder(self) -> Path | None:
        """Where results go; None before anything is chosen."""
        if not self.paths:
            return None
        first = self.paths[0]
        beside = first if first.is_dir() and not is_zarr(first) else first.parent
        return self.output or beside

    # --- what the user chooses -----------------------------------------------------------

    def choose(self, paths: Sequence[Path]) -> None:
        """Take a folder or some files; how many images that are is counted in the background."""
        self.paths, self.found = tuple(paths), None
        self.text = "" if not self.running else self.text
        self.changed.emit()
        chosen, names = tuple(paths), [str(path) for path in paths]

        def count() -> int:
            from napari_tinysam.batch.jobs import find_images

            return len(find_images(names).images)

        self._beside(
            count,
            lambda found: self._counted(chosen, found, ""),
            lambda error: self._counted(chosen, 0, sentence(error)),
        )

    def open(self, result: FileResult, show: Callable[[ReadResult], None]) -> None:
        """Read a finished file in the background; then call `show` with it."""
        self._beside(
            lambda: read_result(result),
            show,
            lambda error: self._notify("warning", sentence(error)),
        )

    def _beside(
        self,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Do something that may take long on a slow disk, without waiting for it."""

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whatever a disk answers
                self._post(lambda error=error: self._tell(on_error, error))  # type: ignore[misc]
            else:
                self._post(lambda: self._tell(on_done, result))

        start_thread(work, "tinysam-files")

    def _tell(self, call: Callable[[Any], None], what: Any) -> None:
        if not self._closed:
            call(what)

    def set_output(self, folder: Path | None) -> None:
        """Write results into a folder; None: beside the images."""
        self.output = folder
        self.changed.emit()

    def set_channel(self, channel: int | None) -> None:
        """Segment this channel of files that have several."""
        self.channel = channel
        self.changed.emit()

    def _counted(self, paths: tuple[Path, ...], found: int, why: str) -> None:
        if paths == self.paths:
            self.found = found
            if why and not self.running:
                self.text = why
            self.changed.emit()

    # --- begin and end -------------------------------------------------------------------

    def run(self, model: ModelChoice, settings: LabelSettings | None) -> None:
        """Segment the chosen files.

        Parameters
        ----------
        model : ModelChoice
        settings : LabelSettings, optional
            Which proposals become objects; the model's own choice by default.
        """
        if self.running:
            self._notify("info", "The files are being segmented already.")
            return
        folder = self.folder
        if folder is None:
            self._notify("info", "Choose a folder or files first.")
            return
        command = _command(self.paths, folder, model, settings, self.channel)
        if sum(map(len, command)) + len(command) > _LONGEST:
            self._notify("info", "These are too many files: choose their folder.")
            return
        self.results, self.fraction = [], None
        self._cancelled, self._part, self._now = False, 0.0, ""
        self.text = "Loading the model…"
        try:
            self._batch = batch = self._start(command)
        except OSError as error:
            self.text = sentence(error, "The files cannot be segmented")
            self._notify("error", self.text)
            self.changed.emit()
            return
        told = {
            "paths": list(map(str, self.paths)),
            "output": None if self.output is None else str(self.output),
            "channel": self.channel,
            "where": folder.name,
        }
        self._note = self._notes.begin(FILES, told)
        listener = threading.Thread(
            target=self._listen, args=(batch,), name="tinysam-files", daemon=True
        )
        listener.start()
        self.changed.emit()

    def take_up(self, told: Mapping[str, Any]) -> None:
        """Choose the files of a run that was cut; the next run goes on after what is finished."""
        output, channel = told.get("output"), told.get("channel")
        self.output = None if output is None else Path(output)
        self.channel = None if channel is None else int(channel)
        self.choose([Path(path) for path in told.get("paths", ())])

    def cancel(self) -> None:
        """Stop; finished files and planes are kept, and the next run goes on after them."""
        if self._batch is not None:
            self._cancelled = True
            self.text = "Stopping…"
            self._batch.stop()
            self.changed.emit()

    def close(self) -> None:
        """Stop without telling anyone."""
        self._closed = True
        if self._batch is not None:
            self._batch.stop()
            self._batch = None
        if self._note is not None:
            self._note.leave()  # it was cut: the next dock says so

    # --- what the batch says -------------------------------------------------------------

    def _listen(self, batch: Batch) -> None:
        """Pass on what a batch says. For a thread of its own."""
        plain: deque[str] = deque(maxlen=1)
        for line in batch.lines:
            event = _event(line)
            if event is None:
                plain.append(line.strip())
            else:
                self._post(lambda event=event: self._heard(batch, event))  # type: ignore[misc]
        code = batch.wait()
        last = plain[-1] if plain else ""
        self._post(lambda: self._ended(batch, code, last.removeprefix("Error: ")))

    def _heard(self, batch: Batch, event: dict[str, Any]) -> None:
        if batch is not self._batch or self._cancelled:
            return
        if event["event"] in ("plane", "tile"):
            self._part = event["done"] / max(event["total"], 1)
            name = Path(event["image"]).name
            several = event["total"] > 1
            part = f", {event['event']} {event['done']} of {event['total']}"
            self._now = f"{name}{part if several else ''}"
        elif event["event"] == "file":
            self._part, self._now = 0.0, ""
            self.found = event["total"]
            self.results.append(
                FileResult(
                    Path(event["image"]),
                    Path(event["labels"]),
                    event["state"],
                    event["objects"],
                    event["reason"],
                )
            )
        else:
            return
        done = len(self.results)
        if self.found is not None:  # they may still be counted
            total = max(self.found, done, 1)
            self.fraction = min((done + self._part) / total, 1.0)
        left = event.get("seconds_left")
        parts = [
            f"{done} of {self.found or '…'} images",
            "" if left is None else in_words(left),
            self._now,
        ]
        self.text = ", ".join(part for part in parts if part)
        self.changed.emit()

    def _ended(self, batch: Batch, code: int, last: str) -> None:
        if batch is not self._batch or self._closed:
            return
        self._batch = None
        if self._note is not None:
            self._note.done()
            self._note = None
        self.fraction = None
        failed = bool(self._with("failed"))
        broken = code != 0 and not self._cancelled and not failed
        self.text = " ".join(self._summary(broken, last))
        level = "warning" if failed or broken else "info"
        self._notify(level, self.text)
        self.changed.emit()

    def _summary(self, broken: bool, last: str) -> Iterator[str]:
        """Say in sentences what the batch did."""
        states = [result.state for result in self.results]
        if broken:
            yield last or "The process that segments the files ended unexpectedly."
        if self._cancelled:
            yield "Stopped; press the button again to go on."
        parts = []
        for state, word in _DONE.items():
            count = states.count(state)
            if count:
                parts.append(f"{count:,} image{'' if count == 1 else 's'} {word}")
        if parts:
            objects = sum(result.objects for result in self.results)
            yield f"{', '.join(parts)}: {objects:,} objects. Results: {self.folder}."
        if foreign := self._with("foreign"):
            verb = "was" if len(foreign) == 1 else "were"
            yield (
                f"{_names(foreign)} {verb} left alone: the labels were changed, or come from "
                "elsewhere."
            )
        if failed := self._with("failed"):
            reason = failed[0].reason.replace(
                str(failed[0].image), failed[0].image.name
            )
            if reason.startswith(failed[0].image.name) and len(failed) == 1:
                yield f"Failed: {reason}"
            else:
                yield f"{_names(failed)} failed: {reason}"

    def _with(self, state: str) -> list[FileResult]:
        return [result for result in self.results if result.state == state]


def _names(results: Sequence[FileResult]) -> str:
    """Name some files."""
    more = f" and {len(results) - _NAMED} more" if len(results) > _NAMED else ""
    return ", ".join(result.image.name for result in results[:_NAMED]) + more


def _command(
    paths: Sequence[Path],
    folder: Path,
    model: ModelChoice,
    settings: LabelSettings | None,
    channel: int | None,
) -> list[str]:
    command = [sys.executable, "-m", "napari_tinysam", "auto", "--progress", "json"]
    command += ["--output", str(folder), "--model", model.name]
    command += ["--device", model.device, "--precision", model.precision]
    if settings is not None:
        command += ["--confidence", str(settings.confidence)]
        command += ["--min-area", str(settings.least_area)]
        if settings.largest_area < float("inf"):
            command += ["--max-area", str(settings.largest_area)]
        command += ["--parts", str(settings.parts)]
        command += ["--max-overlap", str(settings.overlap)]
    if channel is not None:
        command += ["--channel", str(channel)]
    return [*command, "--", *map(str, paths)]


def _event(line: str) -> dict[str, Any] | None:
    """Read a line of JSON; None for anything else."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
