"""The very first start on a computer, and the next one: from opening the dock to the first mask.

``python -m benchmarks.first_start`` starts Python twice with a cache folder that is empty at first.
napari and an image are open before the dock is; the click is asked for at once and answered as soon
as the model can. On Linux without a screen put ``xvfb-run -a`` before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from napari_tinysam.files.tables import markdown_table

_PATIENCE = 300.0

#: Seconds without a change of the cache after which nothing more is expected.
_QUIET = 20.0


def main() -> None:
    """Print a table of both starts: seconds, and the cache in MB."""
    rows = []
    with TemporaryDirectory() as folder:
        place = Path(folder)
        kept = {
            "XDG_CACHE_HOME": place / "cache",
            "LOCALAPPDATA": place / "cache",
            "XDG_STATE_HOME": place / "state",
            "XDG_DATA_HOME": place / "data",
            "NAPARI_CONFIG": place / "napari" / "settings.yaml",
        }
        environment = os.environ | {name: str(path) for name, path in kept.items()}
        command = [sys.executable, "-m", "benchmarks.first_start", "start"]
        for name in ("the very first", "the next"):
            made = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            found = json.loads(made.stdout.splitlines()[-1])
            size = _size(place / "cache")
            seconds = [f"{found[key]:.1f} s" for key in ("dock", "ready", "mask")]
            rows.append([name, *seconds, f"{size / 1e6:.0f} MB"])
    header = ["start", "dock open", "model ready", "first mask", "cache"]
    sys.stdout.write(markdown_table(header, rows))


def _size(folder: Path) -> int:
    """Bytes that the plugin keeps; others cache there as well."""
    found = (path for path in folder.rglob("*") if "napari-tinysam" in path.parts)
    return sum(path.stat().st_size for path in found if path.is_file())


def _start() -> None:
    import napari
    from qtpy.QtWidgets import QApplication

    from benchmarks.session import nuclei

    viewer = napari.Viewer()
    viewer.window.resize(1200, 850)
    image: Any = viewer.add_image(nuclei())

    def wait_for(condition: Any) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > end:
                sys.exit("waited too long")
            QApplication.processEvents()
            time.sleep(0.001)

    shown = time.monotonic()
    wait_for(lambda: time.monotonic() - shown > 1.0)
    begun = time.perf_counter()
    from napari_tinysam.ui.dock.widget import TinySAMWidget

    dock = TinySAMWidget(viewer)
    viewer.window.add_dock_widget(dock, name="TinySAM")
    QApplication.processEvents()
    found = {"dock": time.perf_counter() - begun}
    session: Any = dock.session
    wait_for(lambda: session.image is image)
    session.click_at(image.data_to_world((500.0, 500.0)))
    wait_for(lambda: session.status.kind.name == "READY")
    found["ready"] = time.perf_counter() - begun
    wait_for(lambda: bool(session.candidate_scores))
    found["mask"] = time.perf_counter() - begun
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    # What later starts are faster by is written behind the first masks.
    cache, size, since = Path(os.environ["XDG_CACHE_HOME"]), -1, time.monotonic()
    while time.monotonic() - since < _QUIET:
        wait = time.monotonic() + 1.0
        wait_for(lambda wait=wait: time.monotonic() > wait)
        if size != (size := _size(cache)):
            since = time.monotonic()
    os._exit(0)  # closing the window is not timed, and there is nothing to save


if __name__ == "__main__":
    _start() if sys.argv[1:] == ["start"] else main()
