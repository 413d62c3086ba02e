"""The file of a provenance: JSON, one action, object or part of the labels a line."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.identity import ImageIdentity
from napari_tinysam.journal.lines import (
    About,
    Action,
    DamagedError,
    packed,
    unpacked,
)
from napari_tinysam.journal.objects import ObjectRecord
from napari_tinysam.journal.provenance import Change, Provenance, ToldAction
from napari_tinysam.journal.sparse import SparseLabels

if TYPE_CHECKING:
    import numpy.typing as npt

#: What a provenance file says that it is.
KIND = "napari-tinysam provenance"

#: Changes with the form; files of another one are not read.
FORMAT = 1

_DTYPE = re.compile(r"^[<|][iub][1248]$")

#: The largest file that is read into memory.
_MOST = 2**31


def to_text(told: Provenance) -> str:
    """Return the text of a provenance file.

    Parameters
    ----------
    told : Provenance
    """
    about, labels = told.about, told.labels
    head = {
        "kind": KIND,
        "format": FORMAT,
        "program": about.version,
        "begun": _time(about.begun),
        "saved": _time(told.saved),
        "image": about.image.to_json(),
        "labels": {
            "file": told.labels_file,
            "layer": about.layer,
            "shape": list(labels.shape),
            "dtype": about.dtype,
            "shared_axes": list(told.shared_axes),
        },
        "models": told.models,
    }
    lines = [f" {json.dumps(key)}: {_json(value)}," for key, value in head.items()]
    objects = (
        {"id": label, **record.to_json()} for label, record in told.objects.items()
    )
    lines += _lines("objects", objects)
    lines += _lines("actions", (_action(each, about.dtype) for each in told.actions))
    beginning = None if told.beginning is None else _parts(told.beginning, about.dtype)
    lines += _lines("beginning", beginning)
    lines += _lines("pixels", _parts(labels, about.dtype))
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join(["{", *lines, "}"]) + "\n"


def read_provenance(path: Path) -> Provenance:
    """Read a provenance file.

    Raises
    ------
    FileError
        If it is none, is damaged, or has a form of another version.
    """
    try:
        if path.stat().st_size > _MOST:
            raise FileError(f"{path} is too large for a provenance file.")
        text = path.read_bytes()
    except OSError as error:
        raise FileError(sentence(error, f"{path} cannot be read")) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        start = text[:200].decode(errors="replace")
        if KIND in start:
            raise FileError(
                f"{path} is cut or damaged: it is not whole JSON."
            ) from error
        raise FileError(
            f"{path} is no provenance file of napari-tinysam: it is not JSON."
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise FileError(f"{path} is no provenance file of napari-tinysam.")
    if content.get("format") != FORMAT:
        raise FileError(
            f"{path} was written by version {content.get('program', '?')} of napari-tinysam, in a "
            "form that this version does not read."
        )
    try:
        return _provenance(content)
    except DamagedError as error:
        raise FileError(f"{path} is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(
            f"{path} is damaged, or was changed: something in it is missing or wrong."
        ) from error


def _provenance(content: Mapping[str, Any]) -> Provenance:
    where = content["labels"]
    shape, dtype = tuple(int(n) for n in where["shape"]), str(where["dtype"])
    if not _DTYPE.match(dtype) or len(shape) < 2 or min(shape) < 0:
        raise DamagedError("Its labels cannot be.")
    about = About(
        ImageIdentity.from_json(content["image"]),
        str(where["layer"]),
        shape,
        dtype,
        _seconds(content["begun"]),
        str(content["program"]),
    )
    objects = {int(each["id"]): _record(each) for each in content["objects"]}
    beginning = content["beginning"]
    shared = tuple(int(axis) for axis in where["shared_axes"])
    if any(not 0 <= axis < len(shape) for axis in shared):
        raise DamagedError("Its labels have no such axis.")
    return Provenance(
        about,
        [_read_action(each, about) for each in content["actions"]],
        _labels(content["pixels"], about),
        objects,
        None if beginning is None else _labels(beginning, about),
        shared,
        _seconds(content["saved"]),
        str(where["file"]),
    )


# --- one line ------------------------------------------------------------------------------


def _action(told: ToldAction, dtype: str) -> dict[str, Any]:
    action = told.action
    content: dict[str, Any] = {
        "number": action.number,
        "time": _time(action.time),
        "do": action.name,
    }
    if action.step:
        content["step"] = action.step
    if action.ids:
        content["ids"] = list(action.ids)
    if action.model:
        content["model"] = action.model
    if action.arguments:
        content["arguments"] = dict(action.arguments)
    if told.boxes:
        content["boxes"] = [[list(start), list(stop)] for start, stop in told.boxes]
    if told.changes:
        content["changes"] = [
            {
                "start": list(change.start),
                "shape": list(change.after.shape),
                "before": _packed(change.before, dtype),
                "after": _packed(change.after, dtype),
            }
            for change in told.changes
        ]
    if told.lost:
        content["lost"] = True
    return content


def _read_action(content: Mapping[str, Any], about: About) -> ToldAction:
    action = Action(
        number=int(content["number"]),
        time=_seconds(content["time"]),
        name=str(content["do"]),
        arguments=dict(content.get("arguments", {})),
        ids=tuple(int(each) for each in content.get("ids", ())),
        model=str(content.get("model", "")),
        step=int(content.get("step", 0)),
    )
    boxes = tuple(
        (tuple(int(at) for at in start), tuple(int(at) for at in stop))
        for start, stop in content.get("boxes", ())
    )
    for start, stop in boxes:
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        _check_inside(start, shape, about)
    changes = []
    for each in content.get("changes", ()):
        start = tuple(int(at) for at in each["start"])
        shape = tuple(int(n) for n in each["shape"])
        _check_inside(start, shape, about)
        before, after = (
            _unpacked(each[name], shape, about.dtype) for name in ("before", "after")
        )
        changes.append(Change(start, before, after))
    return ToldAction(action, boxes, tuple(changes), bool(content.get("lost", False)))


def _record(content: Mapping[str, Any]) -> ObjectRecord:
    score = content["score"]
    return ObjectRecord(
        str(content["origin"]),
        str(content["model"]),
        None if score is None else float(score),
        float(content["seconds"]),
        int(content["corrected"]),
    )


def _parts(labels: SparseLabels, dtype: str) -> Iterable[dict[str, Any]]:
    for start, chunk in labels.chunks():
        yield {
            "start": list(start),
            "shape": list(chunk.shape),
            "labels": _packed(chunk, dtype),
        }


def _labels(parts: Iterable[Mapping[str, Any]], about: About) -> SparseLabels:
    labels = SparseLabels(about.shape, about.dtype)
    for each in parts:
        start = tuple(int(at) for at in each["start"])
        shape = tuple(int(n) for n in each["shape"])
        _check_inside(start, shape, about)
        labels.write(start, _unpacked(each["labels"], shape, about.dtype))
    return labels


def _check_inside(start: tuple[int, ...], shape: tuple[int, ...], about: About) -> None:
    inside = len(start) == len(shape) == len(about.shape) and all(
        at >= 0 and n >= 0 and at + n <= limit
        for at, n, limit in zip(start, shape, about.shape, strict=True)
    )
    if not inside:
        raise DamagedError("A change lies outside the labels.")


# --- values --------------------------------------------------------------------------------


def _packed(labels: npt.NDArray[Any], dtype: str) -> str:
    return b64encode(packed(labels, dtype)).decode()


def _unpacked(text: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    return np.asarray(unpacked(b64decode(text, validate=True), shape, dtype))


def _lines(key: str, values: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """Write a list with a line for each value."""
    if values is None:
        return [f" {json.dumps(key)}: null,"]
    rows = [f"  {_json(value)}" for value in values]
    if not rows:
        return [f" {json.dumps(key)}: [],"]
    return [f" {json.dumps(key)}: [", ",\n".join(rows), " ],"]


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
