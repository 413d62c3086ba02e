"""Sets in one file, for another machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from default_model.on_gpu.packed_sets import Encoding, PackedImage, write_packed
from napari_tinysam.errors import DataError
from tinysam_training.data.dataset import read_source
from tinysam_training.data.packed import find_packed, read_packed
from tinysam_training.labelled_image import LabelledImage
from tinysam_training.recipe import DataSource
from training.small_runs import discs


def images() -> list[LabelledImage]:
    """A gray one, a coloured one with two layers whose background is unknown."""
    gray, other = discs(2, 128)
    coloured = other.rgb.copy()
    coloured[..., 1] //= 2
    layers = np.concatenate([other.labels, other.labels[:, ::-1]])
    return [gray, LabelledImage("colour", "discs", coloured, layers, complete=False)]


def packed(path: Path, encoding: Encoding) -> Path:
    write_packed(path, [PackedImage.of(image, encoding) for image in images()])
    return path


def test_without_loss_all_is_as_it_was(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip", "lossless")
    for entry, image in zip(find_packed(path), images(), strict=True):
        back = entry.read()
        assert (back.name, back.dataset) == (image.name, image.dataset)
        assert entry.complete == back.complete == image.complete
        np.testing.assert_array_equal(back.rgb, image.rgb)
        np.testing.assert_array_equal(back.labels, image.labels)


def test_little_loss_keeps_labels_and_nearly_all_of_the_image(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip", "near")
    for entry, image in zip(find_packed(path), images(), strict=True):
        back = entry.read()
        np.testing.assert_array_equal(back.labels, image.labels)
        difference = back.rgb.astype(float) - image.rgb
        assert np.sqrt((difference**2).mean()) < 6
    gray = read_packed(path, 0).rgb
    assert (gray == gray[..., :1]).all()


def test_it_is_a_source_of_a_recipe(tmp_path: Path) -> None:
    packed(tmp_path / "set.zip", "lossless")
    source = DataSource(kind="packed", path="set.zip")
    assert [entry.complete for entry in read_source(source, tmp_path)] == [True, False]
    unknown = replace(source, complete=False, limit=1)
    (entry,) = read_source(unknown, tmp_path)
    assert not entry.complete
    assert not entry.read().complete


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    one = [e.fingerprint for e in find_packed(packed(tmp_path / "a.zip", "lossless"))]
    same = [e.fingerprint for e in find_packed(packed(tmp_path / "b.zip", "lossless"))]
    other = [e.fingerprint for e in find_packed(packed(tmp_path / "c.zip", "near"))]
    assert one == same
    assert not set(one) & set(other)


def test_what_is_no_packed_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a packed set"):
        find_packed(tmp_path / "none.zip")
    path = tmp_path / "text.zip"
    path.write_text("text")
    with pytest.raises(DataError, match="not a packed set"):
        find_packed(path)


def test_too_many_objects_are_refused() -> None:
    image = discs(1, 64)[0]
    labels = image.labels + 70_000
    with pytest.raises(DataError, match="too many objects"):
        PackedImage.of(LabelledImage("many", "discs", image.rgb, labels), "lossless")
