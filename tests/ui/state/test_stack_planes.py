"""The planes of a stack, and what its axes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image

from napari_tinysam.ui.state.images import Memory
from napari_tinysam.ui.state.stack_planes import AxisKind, axis_kind


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("z", AxisKind.DEPTH),
        ("Depth", AxisKind.DEPTH),
        ("T", AxisKind.TIME),
        ("time", AxisKind.TIME),
        ("position", None),
    ],
)
def test_labels_say_what_an_axis_is(label: str, kind: AxisKind | None) -> None:
    image = Image(np.zeros((3, 4, 5)), axis_labels=(label, "y", "x"))
    assert axis_kind(image, 0, Memory().state_of(image)) is kind


def test_what_the_user_said_is_asked_after_the_label() -> None:
    plain = Image(np.zeros((3, 4, 5)))
    memory = Memory()
    state = memory.state_of(plain)
    assert axis_kind(plain, 0, state) is None
    state.kind[0] = AxisKind.TIME
    assert axis_kind(plain, 0, state) is AxisKind.TIME

    named = Image(np.zeros((3, 4, 5)), axis_labels=("z", "y", "x"))
    memory.state_of(named).kind[0] = AxisKind.TIME
    assert axis_kind(named, 0, memory.state_of(named)) is AxisKind.DEPTH


def test_the_file_says_it_where_the_layer_does_not(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    stack = np.zeros((5, 3, 16, 16), np.uint8)
    tifffile.imwrite(path, stack, metadata={"axes": "TZYX"}, photometric="minisblack")
    viewer = ViewerModel()
    viewer.open(str(path), plugin="napari")
    image = viewer.layers[0]
    state = Memory().state_of(image)
    assert axis_kind(image, 0, state) is AxisKind.TIME
    assert axis_kind(image, 1, state) is AxisKind.DEPTH
