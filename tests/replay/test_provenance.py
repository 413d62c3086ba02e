"""The file beside the labels: what it says, its schema, and what is wrong with others."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from napari.layers import Labels

from napari_tinysam.errors import FileError
from napari_tinysam.journal.provenance import joined, provenance_file, same_labels
from napari_tinysam.journal.provenance_file import read_provenance, to_text
from napari_tinysam.replay.again import replay
from napari_tinysam.replay.image import ReplayedImage
from pixel_runtime import pixel_predictor
from replay.sessions import SESSIONS, Session, open_session

SCHEMA = json.loads(
    (files("napari_tinysam.journal") / "provenance.schema.json").read_text()
)


@pytest.fixture(scope="module")
def painted() -> Session:
    return SESSIONS["painting"]()


@pytest.mark.parametrize("name", ["painting", "following", "merges_and_deletes"])
def test_a_real_file_fits_the_schema_and_is_read_as_it_was_written(
    name: str, tmp_path: Path
) -> None:
    told = SESSIONS[name]().told()
    text = to_text(told)
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    path = tmp_path / "cells_provenance.json"
    path.write_text(text, encoding="utf-8")
    again = read_provenance(path)
    assert to_text(again) == text
    assert same_labels(again.labels, told.labels)
    assert again.objects == told.objects


def test_the_schema_refuses_what_is_something_else(painted: Session) -> None:
    content = json.loads(to_text(painted.told()))
    content["actions"][-1]["step"] = "first"
    assert not Draft202012Validator(SCHEMA).is_valid(content)


def test_each_object_says_how_it_came_to_be(painted: Session) -> None:
    told = painted.told()
    assert told.models == [
        {"name": "pixels0", "id": "p0", "device": "auto", "runtime": "pixels"}
    ]
    clicked, drawn = told.objects[1], told.objects[7]
    assert (clicked.origin, drawn.origin) == ("clicks", "painted")
    assert (clicked.corrected, drawn.corrected) == (0, 0)  # what was edited was undone
    assert (clicked.model, drawn.score) == ("pixels0 p0", None)


@pytest.mark.parametrize(
    ("labels", "file"),
    [
        ("cells_labels.tif", "cells_provenance.json"),
        ("cells.ome.tif", "cells_provenance.json"),
        ("mine.tif", "mine_provenance.json"),
    ],
)
def test_the_file_lies_beside_the_labels(labels: str, file: str) -> None:
    assert provenance_file(Path("a") / labels) == Path("a") / file


def test_a_later_session_goes_on_with_what_the_file_tells(tmp_path: Path) -> None:
    first = SESSIONS["clicks"]()
    earlier = first.told()
    second = SESSIONS["edits"]().told()
    assert joined(earlier, second) is None  # it does not begin with these labels

    later = open_session(first.pixels, Labels(first.labels, name="old"))
    later.do(later.desk.session.set_target, later.desk.viewer.layers["old"])
    later.commit(150, 120)
    both = joined(earlier, later.told())
    assert both is not None
    assert both.objects[1].origin == "clicks"
    assert len(both.objects) == len(earlier.objects) + 1
    numbers = [each.action.number for each in both.actions]
    assert numbers == sorted(set(numbers))
    made = replay(both, ReplayedImage(first.pixels), lambda model: pixel_predictor())
    assert same_labels(made.labels, both.labels)


# --- files that are wrong ------------------------------------------------------------------


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FileError) as error:
        read_provenance(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_other_files_are_refused_in_a_sentence(
    painted: Session, tmp_path: Path
) -> None:
    path = tmp_path / "cells_provenance.json"
    whole = json.loads(to_text(painted.told()))
    assert "no provenance file" in refused(path, b"II*\0 some picture")
    assert "no provenance file" in refused(path, b'{"kind": "something else"}')
    assert "no provenance file" in refused(path, b"[]")
    other = json.dumps({**whole, "format": 2, "program": "9.1"}).encode()
    assert "version 9.1" in refused(path, other)
    del whole["image"]["shape"]
    assert "missing or wrong" in refused(path, json.dumps(whole).encode())
    with pytest.raises(FileError, match=r"cannot be read"):
        read_provenance(tmp_path / "nothing.json")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused(
    data: st.DataObject, painted: Session, tmp_path_factory: Any
) -> None:
    content = to_text(painted.told()).rstrip().encode()
    at = data.draw(st.integers(0, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "cells_provenance.json"
    refused(path, content[:at])
