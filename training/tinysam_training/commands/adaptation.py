"""An adaptation on disk: what was asked, the images as they were then, what has happened so far.

The dock writes the folder and a process of its own works on it, so that neither needs the other:
napari may be closed, and a process that was killed goes on from its checkpoint. Importing this
module loads no torch.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.lock import is_locked, lock_owner, take_lock
from tinysam_training.commands.samples import DONE, PARTLY, Sample, write_sample
from tinysam_training.data.sources.layout import ANNOTATION_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a running adaptation can be asked for: to end with the best so far, to go on another time,
#: to end for good.
Request = Literal["stop", "pause", "cancel"]

#: Adaptations are kept up to this number.
KEPT = 5

#: What is kept of one that has ended.
_KEPT = ("order.json", "events.jsonl", "comparison", "log.txt", "seen")

#: The last event of an adaptation that has ended for good.
ENDS = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes
    ----------
    name : str
        Of the model that is to be made.
    model : str
        Where it goes.
    start : str
        A name of the registry or a checkpoint file.
    minutes : float
        For everything.
    way, device, seed
        As of `tinysam_training.commands.finetune.FinetuneSettings`.
    images, objects : int
        That were annotated, for the record.
    began : float
        Seconds since 1970.
    """

    name: str
    model: str
    start: str = "default"
    minutes: float = 10.0
    way: str = "auto"
    device: str = "auto"
    seed: int = 0
    images: int = 0
    objects: int = 0
    began: float = 0.0


@dataclass(frozen=True)
class Adaptation:
    """The folder of an adaptation.

    Parameters
    ----------
    path : Path
    """

    path: Path

    @property
    def data(self) -> Path:
        """The images and labels, in the layout that training reads."""
        return self.path / "data"

    @property
    def model(self) -> Path:
        """The best model so far."""
        return self.path / "best.safetensors"

    @property
    def made(self) -> Path:
        """The finished model: `model`, rounded and with notes."""
        return self.path / "made.safetensors"

    @property
    def floats(self) -> Path:
        """What `made` was rounded from, where it was rounded to 8 bits."""
        return self.path / "floats.safetensors"

    @property
    def comparison(self) -> Path:
        """Held-out images and what the models before and after see in them."""
        return self.path / "comparison"

    @property
    def lock(self) -> Path:
        """The lock of the folder of all adaptations: one runs at a time."""
        return self.path.parent / "lock"

    def order(self) -> Order:
        """Read what is to be done; raises `FileError`."""
        path = self.path / "order.json"
        try:
            plain = json.loads(path.read_text("utf-8"))
            known = {field.name for field in fields(Order)}
            return Order(**{name: plain[name] for name in plain if name in known})
        except (OSError, ValueError, TypeError) as error:
            raise FileError(sentence(error, f"{path} cannot be read")) from error

    def put_elsewhere(self, folder: Path) -> None:
        """Let the finished model go into another folder; raises `FileError`."""
        order = self.order()
        place = str(folder / Path(order.model).name)
        self._write_order(replace(order, model=place))

    def _write_order(self, order: Order) -> None:
        write_text(self.path / "order.json", json.dumps(asdict(order), indent=1))

    @property
    def ready(self) -> dict[str, Any] | None:
        """What is to be said of a finished model that is only to be installed."""
        try:
            known = json.loads((self.path / "ready.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and self.made.exists() else None

    def keep_ready(self, known: dict[str, Any]) -> None:
        """Keep what is to be said, until the model is installed."""
        write_text(self.path / "ready.json", json.dumps(known))

    @property
    def usual(self) -> list[str] | None:
        """Names of the images, the most usual first; None if nobody has looked yet."""
        try:
            known = json.loads((self.path / "usual.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return known if isinstance(known, list) else None

    def keep_usual(self, names: list[str]) -> None:
        """Keep their order: what is held out must not change when it goes on."""
        write_text(self.path / "usual.json", json.dumps(names))

    # --- what happens ---------------------------------------------------------------------

    def say(self, event: str, **known: Any) -> None:
        """Append a line of JSON; an event has its name under ``event`` and a time."""
        line = json.dumps({"event": event, "time": round(time.time(), 2), **known})
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def events(self, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Read the events from a place in the file; also the place up to which they are whole."""
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                file.seek(start)
                text = file.read()
        except OSError:
            return [], start
        whole = text.rfind(b"\n") + 1
        found = []
        for line in text[:whole].splitlines():
            with suppress(ValueError):  # a process was killed while it wrote
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    found.append(event)
        return found, start + whole

    @property
    def end(self) -> dict[str, Any] | None:
        """The event with which it ended for good; None if it may go on."""
        found, _ = self.events()
        ends = (*ENDS, "began")
        last: dict[str, Any] = next(
            (event for event in reversed(found) if event["event"] in ends), {}
        )
        return last if last.get("event") in ENDS else None

    # --- what the user asks ----------------------------------------------------------------

    def ask(self, request: Request | None) -> None:
        """Leave a request for the process that works on it; None: nothing any more."""
        path = self.path / "request"
        if request is None:
            path.unlink(missing_ok=True)
        else:
            write_text(path, request)

    @property
    def request(self) -> str:
        """What the process is asked for; "" for nothing."""
        try:
            return (self.path / "request").read_text("utf-8").strip()
        except OSError:
            return ""

    # --- who works on it -------------------------------------------------------------------

    def take(self) -> int:
        """Become the one process that adapts.

        Returns
        -------
        int
            The open lock file; it is free when this process ends in whatever way.

        Raises
        ------
        FileError
            If another adaptation is running.
        """
        try:
            file = take_lock(self.lock)
        except OSError as error:
            raise FileError(
                sentence(error, f"{self.lock} cannot be written")
            ) from error
        if file is None:
            owner = lock_owner(self.lock) or "which has just begun"
            raise FileError(f"A model is being adapted already ({owner}); wait for it.")
        with suppress(OSError):
            write_text(self.path.parent / "running", self.path.name)
        return file

    @property
    def running(self) -> bool:
        """Whether a living process works on this one."""
        try:
            name = (self.path.parent / "running").read_text("utf-8").strip()
        except OSError:
            return False
        return name == self.path.name and is_locked(self.lock)

    def remove(self) -> None:
        """Delete the folder; the finished model is elsewhere."""
        shutil.rmtree(self.path, ignore_errors=True)

    def tidy(self) -> None:
        """Delete what nobody needs when it has ended: images, checkpoint and weights.

        What was asked, what happened and the comparison stay. Of all adaptations, only the last few
        are kept.
        """
        for path in self.path.iterdir():
            if path.name in _KEPT:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # open in another program
                    path.unlink()
        others = [
            each
            for each in all_adaptations(self.path.parent)
            if each.path != self.path and not each.running
        ]
        for old in others[: max(0, len(others) + 1 - KEPT)]:
            old.remove()


def default_folder() -> Path:
    """Return the folder of all adaptations; it need not exist yet."""
    from napari_tinysam.checkpoints.own import models_folder

    return models_folder() / "adaptations"


def who_adapts(folder: Path) -> None:
    """Raise `FileError` if a model is being adapted now, by whatever process."""
    if is_locked(folder / "lock"):
        owner = lock_owner(folder / "lock")
        raise FileError(f"A model is being adapted already ({owner}); wait for it.")


def all_adaptations(folder: Path | None = None) -> list[Adaptation]:
    """List the adaptations that have an order, the newest last."""
    root = default_folder() if folder is None else folder
    try:
        places = [place for place in root.iterdir() if (place / "order.json").is_file()]
    except OSError:
        return []
    return [Adaptation(place) for place in sorted(places)]


def begin(
    order: Order,
    samples: Iterable[Sample],
    folder: Path | None = None,
) -> Adaptation:
    """Make the folder of an adaptation, with the images as they are now.

    Parameters
    ----------
    order : Order
        Its numbers of images and objects are filled in.
    samples : iterator of Sample
        Read one after the other.
    folder : Path, optional
        Of all adaptations; `default_folder` if not given.

    Raises
    ------
    DataError
        If no sample has an object.
    FileError
        If something cannot be written. Nothing is left behind then.
    """
    root = default_folder() if folder is None else folder
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(order.began or time.time()))
    path, number = root / stamp, 1
    while path.exists():
        number += 1
        path = root / f"{stamp}-{number}"
    made = Adaptation(path)
    numbers: dict[str | int, int] = {}
    images: set[int] = set()
    objects = 0
    try:
        for part in (DONE, PARTLY):
            (made.data / part).mkdir(parents=True)
        (made.data / PARTLY / ANNOTATION_FILE).write_text("complete: false\n", "utf-8")
        for plane, sample in enumerate(samples):
            number = numbers.setdefault(sample.image or plane, len(numbers))
            write_sample(made.data, number, plane, sample)
            if sample.objects:
                images.add(number)
                objects += sample.objects
        if not objects:
            raise DataError("None of these images has an object to learn from.")
        for part in (DONE, PARTLY):  # an empty folder is no set
            if not list((made.data / part).glob("*.npz")):
                shutil.rmtree(made.data / part)
        made._write_order(replace(order, images=len(images), objects=objects))
    except OSError as error:
        made.remove()
        raise FileError(sentence(error, f"{root} cannot be written to")) from error
    except BaseException:
        made.remove()
        raise
    return made
