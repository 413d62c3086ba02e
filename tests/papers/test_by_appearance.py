"""Figures apart for fluorescence and for other images."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_tinysam.errors import DataError
from papers.by_appearance import by_appearance

LABELS = np.zeros((32, 32), np.uint16)
LABELS[8:20, 8:20] = 1


def write_data(folder: Path) -> Path:
    """Write three images: bright on dark, dark on bright, and in colour."""
    place = folder / "cells" / "val"
    place.mkdir(parents=True)
    bright = np.where(LABELS > 0, 200, 20).astype(np.uint8)
    colour = np.stack([bright, bright // 2, bright], axis=-1)
    for name, pixels in (("a", bright), ("b", 255 - bright), ("c", colour)):
        iio.imwrite(place / f"{name}.png", pixels)
        iio.imwrite(place / f"{name}_label.png", LABELS)
    return folder / "cells"


def test_means_of_each_group(tmp_path: Path) -> None:
    data, out = write_data(tmp_path), tmp_path / "out"
    out.mkdir()
    with (out / "images.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["image", "box_iou", "msa"])
        table.writeheader()
        for name, iou, msa in (("a", 0.9, 0.7), ("b", 0.8, 0.5), ("c", 0.6, "")):
            table.writerow({"image": f"cells/val/{name}", "box_iou": iou, "msa": msa})
    command = [sys.executable, "-m", "papers.by_appearance", str(out), str(data)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = shown.strip().splitlines()
    assert lines[2] == "| fluorescence | 1 | 0.900 | – | – | – | – | 0.700 | – |"
    assert lines[3] == "| others | 2 | 0.700 | – | – | – | – | 0.500 | – |"


def test_images_of_other_data_are_refused() -> None:
    with pytest.raises(DataError, match="x is not in these data"):
        by_appearance([{"image": "x", "box_iou": "0.5"}], {})


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "papers.by_appearance", str(tmp_path), "data"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "is no evaluation" in run.stderr
    assert "Traceback" not in run.stderr
