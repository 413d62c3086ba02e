"""Timings. What benchmarks do in sessions is kept in a folder that goes with them."""

import os
import tempfile
from pathlib import Path

# Journals and lists of images would else be in the user's own state folder.
_STATE = tempfile.TemporaryDirectory(prefix="napari-tinysam-benchmarks-")
os.environ.setdefault("NAPARI_TINYSAM_JOURNALS", str(Path(_STATE.name) / "journals"))
os.environ.setdefault("NAPARI_TINYSAM_LISTS", str(Path(_STATE.name) / "lists"))
