"""How long from one image of a list to the next, until it can be clicked.

``python -m benchmarks.image_list`` opens a folder of synthetic images in a window, clicks and
commits an object in each, and goes on with the key's method: with the next image read ahead, and
without. On Linux without a screen put ``xvfb-run -a`` before it. The images, labels and lists are
in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile

from tinysam_training.synthetic.volumes import synthetic_volume


def main() -> None:
    """Print medians and worst cases in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="pixels of the images")
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    with TemporaryDirectory() as made:
        place = Path(made)
        # Nothing of the user's is touched, and no embedding of an earlier run is found.
        os.environ["NAPARI_TINYSAM_LISTS"] = str(place / "lists")
        os.environ["NAPARI_TINYSAM_JOURNALS"] = str(place / "journals")
        sys.stdout.write(
            "| next image | until shown | until it can be clicked | of that, window's CPU |\n"
            "|---|---|---|---|\n"
        )
        for ahead in (True, False):
            folder = place / f"cells_{ahead}"
            places = _write_images(folder, arguments.images, arguments.side, ahead)
            _print_row("read ahead" if ahead else "not", _run(folder, places, ahead))


def _write_images(
    folder: Path, count: int, side: int, seed: int
) -> list[tuple[int, int]]:
    """Write images, and return a pixel of an object of each: (y, x)."""
    folder.mkdir()
    places = []
    for number in range(count):
        rng = np.random.default_rng([number, seed])
        made = synthetic_volume(rng, (3, 256, 256), 12)
        image, labels = made.image[1], made.labels[1]
        times = side // 256
        tifffile.imwrite(
            folder / f"{number:02}.tif", np.kron(image, np.ones((times,) * 2))
        )
        inside = np.argwhere(labels == np.bincount(labels[labels > 0]).argmax())
        y, x = inside[len(inside) // 2]
        places.append((int(y) * times, int(x) * times))
    return places


def _run(
    folder: Path, places: list[tuple[int, int]], ahead: bool
) -> list[tuple[float, float, float]]:
    """Return seconds until shown, until clickable, and of the window's thread, for each step."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_tinysam.ui.dock.widget import TinySAMWidget

    viewer = napari.Viewer()
    viewer.window.resize(1200, 800)
    dock = TinySAMWidget(viewer)
    viewer.window.add_dock_widget(dock, name="TinySAM")
    session: Any = dock.session

    def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
        begun = time.monotonic()
        while not condition() and time.monotonic() - begun < seconds:
            QApplication.processEvents()
            time.sleep(0.001)

    def pause(seconds: float) -> None:
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > seconds)

    def ready() -> bool:
        return bool(session.status.kind.name == "READY")

    pause(0.5)
    session.set_ahead(ahead)
    listed = session.listed
    if not ahead:
        listed.read_ahead = lambda: None
    listed.open_paths([folder])
    wait_for(lambda: listed.current is not None)
    wait_for(ready)
    found = []
    for y, x in places[:-1]:
        session.click_at(session.image.data_to_world((y, x)))
        wait_for(lambda: session.can_commit and bool(session.candidate_scores))
        session.commit()
        pause(4.0)  # what a user needs for the next objects; the machine reads ahead
        entry = listed.current
        begun, cpu = time.perf_counter(), time.thread_time()
        session.next_image()
        wait_for(lambda entry=entry: listed.current not in (None, entry))
        shown = time.perf_counter() - begun
        wait_for(ready)
        found.append((shown, time.perf_counter() - begun, time.thread_time() - cpu))
    viewer.close()
    pause(0.5)
    return found


def _print_row(name: str, found: list[tuple[float, float, float]]) -> None:
    cells = []
    for values in zip(*found, strict=True):
        median, worst = 1000 * statistics.median(values), 1000 * max(values)
        cells.append(f"{median:.0f} ms, worst {worst:.0f}")
    sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
