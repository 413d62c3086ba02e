"""A thousand discs in an image of 4096² pixels, and the peak of the memory that finding them took.

Run as a program with a mode; prints the number of objects, of proposals and the peak in megabytes.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from everything.scene import SceneRuntime
from napari_tinysam.everything import (
    LabelSettings,
    SearchSettings,
    Segmentation,
    Thresholds,
)
from napari_tinysam.inference.predictor import Predictor

#: Along a side.
COUNT = 32


class ForgetfulRuntime(SceneRuntime):
    """Keeps nothing, so that what is measured is what the search keeps."""

    def _planes(self, number: int) -> np.ndarray:
        planes = super()._planes(number)
        self._known.clear()
        return planes


def main() -> None:
    """Segment, and say what it took."""
    step = 1024 / COUNT
    places = (np.arange(COUNT) + 0.5) * step
    discs = [(float(x), float(y), 0.45 * step) for y in places for x in places]
    runtime = ForgetfulRuntime(discs, seen=discs)
    predictor = Predictor(runtime, name="discs", model_id="discs")
    embedding = predictor.encode(np.zeros((4096, 4096, 3), np.uint8))
    thresholds = Thresholds(
        search=SearchSettings(
            score_threshold=-1.0, stability_threshold=0.2, points_per_side=COUNT
        ),
        labels=LabelSettings(confidence=0.0),
        guided_labels=LabelSettings(confidence=0.0),
    )
    found = Segmentation(predictor, embedding, sys.argv[1], thresholds=thresholds).run()
    labels = found.labels().labels
    assert labels.shape == (4096, 4096)
    print(int(labels.max()), len(found.proposals), round(peak_megabytes()))  # noqa: T201


def peak_megabytes() -> float:
    """Most memory that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says there begins with the parent's memory
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
