"""Progress of a batch on stderr: a bar for people, or lines of JSON for programs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from napari_tinysam.cli.console import note, progress_bar, say

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.settings import FileOutcome
    from napari_tinysam.files.remote import ImagePath


class Progress(Protocol):
    """What a batch reports while it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *reason: object) -> None: ...

    def step(self, job: Job, done: int, total: int, unit: str) -> None:
        """Report that so many planes or tiles of a file are done, of all of them."""

    def file(self, outcome: FileOutcome) -> None:
        """Report that a file is done."""

    def note(self, text: str) -> None:
        """Say a sentence."""


def batch_progress(form: str, files: int) -> Progress:
    """Return the progress of a form, bar or json, for a number of files."""
    return _Lines(files) if form == "json" else _Bar(files)


class _Steps:
    """How much of a batch is done, in files; a plane or a tile is part of one."""

    def __init__(self) -> None:
        self._files = 0
        self._begun: dict[ImagePath, float] = {}

    def step(self, image: ImagePath, done: int, total: int) -> None:
        self._begun[image] = done / total

    def file(self, image: ImagePath) -> int:
        self._begun.pop(image, None)
        self._files += 1
        return self._files

    @property
    def done(self) -> float:
        return self._files + sum(self._begun.values())


class _Bar:
    def __init__(self, files: int) -> None:
        self._bar = progress_bar(total=files, unit="file")
        self._steps = _Steps()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.close()

    def step(self, job: Job, done: int, total: int, unit: str) -> None:
        self._steps.step(job.image, done, total)
        self._bar.set_postfix_str(f"{job.image.name}, {unit} {done} of {total}")
        self._update()  # so that the time left follows the planes

    def file(self, outcome: FileOutcome) -> None:
        self._steps.file(outcome.job.image)
        self._update()
        self._bar.clear()

    def note(self, text: str) -> None:
        note(text)

    def _update(self) -> None:
        self._bar.update(self._steps.done - self._bar.n)


class _Lines:
    def __init__(self, files: int) -> None:
        self._total = files
        self._steps = _Steps()
        self._begin = time.monotonic()

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        return self

    def __exit__(self, *reason: object) -> None:
        pass

    def step(self, job: Job, done: int, total: int, unit: str) -> None:
        self._steps.step(job.image, done, total)
        known = {"image": str(job.image), "done": done, "total": total}
        self._say(unit, **known)

    def file(self, outcome: FileOutcome) -> None:
        done = self._steps.file(outcome.job.image)
        self._say(
            "file",
            image=str(outcome.job.image),
            state=outcome.state,
            labels=str(outcome.job.labels),
            objects=outcome.objects,
            planes=outcome.planes,
            reason=outcome.reason,
            done=done,
            total=self._total,
        )

    def note(self, text: str) -> None:
        self._say("note", text=text)

    def _say(self, event: str, **known: Any) -> None:
        seconds = time.monotonic() - self._begin
        done = self._steps.done
        left = seconds * (self._total - done) / done if done else None
        times = {
            "seconds": round(seconds, 3),
            "seconds_left": None if left is None else round(left, 3),
        }
        say(json.dumps({"event": event, **known, **times}))
