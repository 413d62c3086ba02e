"""Adapting the model to what was annotated, beside the viewer, and what comes of it.

The work is done by a process of its own (`adapt_process`); what passes between it and the dock is
in a folder (`tinysam_training.commands.adaptation`). So a run that an earlier napari began is
followed as one that this one began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_tinysam.checkpoints.own import model_path
from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.ui.session.adapting.annotated import (
    Annotated,
    annotated,
    read_samples,
    sources,
)
from napari_tinysam.ui.session.adapting.outcome import (
    Adapted,
    Curve,
    adapted,
    last_event,
    why_interrupted,
)
from napari_tinysam.ui.session.adapting.process import Start, start_process
from napari_tinysam.ui.session.aside import Aside
from napari_tinysam.ui.state.time_left import in_words

if TYPE_CHECKING:
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.images.image_list import ListedImages
    from tinysam_training.commands.adaptation import Adaptation

#: Seconds between looks at what the process has done.
_LOOK = 0.3


class Adapting:
    """One run at a time.

    Parameters
    ----------
    listed : ListedImages
        The images and what is annotated in them.
    post : callable
        Runs a callable soon on the session's thread, from any thread.
    notify : callable
        ``notify(level, text)``.
    start : callable
        Starts the process.
    folder : Path, optional
        Of all adaptations.

    Attributes
    ----------
    partly : bool
        Whether images are learnt from that are not done.
    minutes : float
        That the user wants to wait.
    name : str
        Of the model to be made; "" for the list's name.
    begins_with : str
        A name of the registry or a file; "" for the model in use.
    goes_on : bool
        Whether the run goes on when napari is closed. If not, it pauses.
    text : str
        What is going on.
    curve : Curve
    progress : float or None
        Of the learning, from 0 to 1.
    result : Adapted or None
        Of the last run, until it is put away.
    left : Adaptation or None
        A run that was interrupted, and can go on.
    changed : Signal
        Emitted when any of this changed.
    """

    changed = Signal()

    def __init__(
        self,
        listed: ListedImages,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        *,
        start: Start = start_process,
        folder: Path | None = None,
    ) -> None:
        self._listed = listed
        self._post = post
        self._notify = notify
        self._start = start
        self._folder = folder
        self._aside = Aside(post)
        self._run: Adaptation | None = None
        self._preparing = self._closed = self._cancelled = False
        self.partly = False
        self.minutes = 10.0
        self.name = self.begins_with = ""
        self.goes_on = True
        self.text = ""
        self.curve = Curve()
        self.progress: float | None = None
        self.result: Adapted | None = None
        self.left: Adaptation | None = None

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self._preparing or self._run is not None

    @property
    def found(self) -> Annotated:
        """What there is to learn from."""
        return annotated(self._listed, partly=self.partly)

    @property
    def suggested_name(self) -> str:
        """The name of the model if the user gives none."""
        images = self._listed.images
        return images.title if images is not None else "my model"

    def set(self, **choices: Any) -> None:
        """Change `partly`, `minutes`, `name`, `begins_with` or `goes_on`."""
        for name, value in choices.items():
            setattr(self, name, value)
        self.changed.emit()

    # --- begin, ask, end -----------------------------------------------------------------

    def look(self) -> None:
        """Find a run of an earlier napari: it goes on, was interrupted, or has ended since."""

        def find() -> Adaptation | None:
            from tinysam_training.commands.adaptation import all_adaptations

            there = all_adaptations(self._folder)
            going = [each for each in there if each.running]
            return going[-1] if going else (there[-1] if there else None)

        def found(run: Adaptation | None) -> None:
            if run is None or self.running:
                return
            if run.running:
                self._follow(run, lambda: False)
            elif run.end is None:
                self.left = run
                self.text = why_interrupted(run)
            elif not (run.path / "seen").exists():
                self._ended(run)
            self.changed.emit()

        self._aside.run(find, found, lambda error: None)

    def begin(self, model: str, device: str) -> None:
        """Adapt a model to what is annotated now.

        Parameters
        ----------
        model : str
            That is in use; the run begins with it unless the user chose another.
        device : str
        """
        if self.running:
            self._notify("info", "A model is being adapted already.")
            return
        found = self.found
        if not found.is_enough:
            self._notify("info", found.text)
            return
        name = self.name.strip() or self.suggested_name
        begins_with, minutes = self.begins_with or model, self.minutes
        taken = sources(found, self._listed)

        def prepare() -> Adaptation:
            from tinysam_training.commands.adaptation import (
                Order,
                begin,
                default_folder,
                who_adapts,
            )

            who_adapts(self._folder or default_folder())
            order = Order(
                name=name,
                model=str(model_path(name)),
                start=begins_with,
                minutes=minutes,
                device=device,
                began=time.time(),
            )
            left_out: list[str] = []
            try:
                run = begin(order, read_samples(taken, left_out.append), self._folder)
            except DataError as error:
                raise DataError(left_out[0] if left_out else str(error)) from error
            for text in left_out:
                run.say("note", text=f"Left out: {text}")
            return run

        self._preparing, self.result, self.left = True, None, None
        self.curve, self.progress = Curve(), None
        self.text = "Collecting the images…"
        self._aside.run(prepare, self._launch, self._not_begun)
        self.changed.emit()

    @property
    def is_homeless(self) -> bool:
        """Whether all that the interrupted run lacks is a folder for its model."""
        return self.left is not None and bool(last_event(self.left).get("elsewhere"))

    def resume(self, folder: Path | None = None) -> None:
        """Go on with an interrupted run; its model goes into another folder if one is given."""
        if self.left is None or self.running:
            return
        try:
            if folder is not None:
                self.left.put_elsewhere(folder)
        except FileError as error:
            self._notify("warning", sentence(error))
            return
        self._launch(self.left)

    def stop_early(self) -> None:
        """End learning now, and keep the best so far."""
        if self._run is not None:
            self.text = "Ending with the best so far…"
            self._run.ask("stop")
            self.changed.emit()

    def cancel(self) -> None:
        """End, and keep nothing."""
        if self._run is not None:
            self._cancelled = True
            self.text = "Stopping…"
            self._run.ask("cancel")
            self.changed.emit()

    def discard(self) -> None:
        """Delete what an interrupted run has done."""
        if self.left is not None and not self.left.running:
            self.left.remove()
            self.left, self.text = None, ""
            self.changed.emit()

    def put_away(self) -> None:
        """Show the result no more."""
        self.result, self.text = None, ""
        self.changed.emit()

    def close(self) -> None:
        """Follow the run no more; it goes on or pauses, as the user likes."""
        self._closed = True
        self._aside.close()
        if self._run is not None and not self.goes_on:
            self._run.ask("pause")

    def _not_begun(self, error: Exception) -> None:
        self._preparing = False
        self.text = sentence(error)
        self._notify("warning", self.text)
        self.changed.emit()

    def _launch(self, run: Adaptation) -> None:
        self._preparing, self.left = False, None
        try:
            run.ask(None)
            alive = self._start(run.path)
        except OSError as error:
            self.left = run
            self._not_begun(error)
            return
        self._follow(run, alive)
        self.changed.emit()

    # --- what the process does -----------------------------------------------------------

    def _follow(self, run: Adaptation, alive: Callable[[], bool]) -> None:
        """Pass on what a run does until it has ended. `alive` knows of its process."""
        self._run, self._cancelled = run, False
        self.curve, self.progress, self.result = Curve(), None, None
        self.text = "Starting…"

        def listen() -> None:
            place = 0
            while not self._closed:
                going = alive() or run.running
                events, place = run.events(place)
                if events:
                    self._post(lambda events=events: self._heard(run, events))  # type: ignore[misc]
                if not going:
                    self._post(lambda: self._ended(run))
                    return
                time.sleep(_LOOK)

        threading.Thread(target=listen, name="tinysam-adapting", daemon=True).start()

    def _heard(self, run: Adaptation, events: list[dict[str, Any]]) -> None:
        if run is not self._run or self._closed:
            return
        asked = run.request
        for event in events:
            kind, left = event["event"], event.get("left")
            if kind == "step":
                self.progress = float(event["progress"])
                # A run that goes on from its checkpoint repeats some steps.
                self.curve.losses = [
                    known for known in self.curve.losses if known[0] < self.progress
                ]
                self.curve.losses.append((self.progress, float(event["loss"])))
            elif kind == "judged":
                at = self.progress if self.progress is not None else 0.0
                known = [each for each in self.curve.scores if each[0] < at]
                self.curve.scores = [*known, (at, float(event["score"]))]
            elif kind == "stage":
                self._stage = str(event["text"])
            elif kind == "note":
                self._notify("warning", str(event["text"]))
            if kind in ("step", "stage") and not asked:
                time_left = "" if left is None else in_words(float(left))
                self.text = ", ".join(part for part in (self._stage, time_left) if part)
        self.changed.emit()

    _stage = ""

    def _ended(self, run: Adaptation) -> None:
        if self._closed or (self._run is not None and run is not self._run):
            return
        self._run, self.progress = None, None
        end = run.end
        if end is None:
            self.left = run
            self.text = why_interrupted(run)
            self._notify("warning", self.text)
        elif end["event"] == "cancelled":
            run.remove()
            self.text = "Adapting was cancelled; the model as it is stays."
        else:
            self._finished(run, end)
        self.changed.emit()

    def _finished(self, run: Adaptation, end: dict[str, Any]) -> None:
        (run.path / "seen").touch()
        failed = end["event"] == "failed"
        text = str(end.get("text", ""))
        self.text = ""
        self.result = adapted(run, end)
        if failed:
            self._notify("error", self.result.text)
        elif self.result.model:
            self._notify("info", f"The model “{self.result.name}” is ready. {text}")
        else:
            self._notify("warning", text)
