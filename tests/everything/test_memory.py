"""Everything mode's memory has a bound, also for large images with many objects."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from everything.scene import scene
from napari_tinysam.everything import (
    LabelSettings,
    SearchSettings,
    Segmentation,
    Thresholds,
)

#: One disc around each point of the default grid, in pixels of the frame.
DISCS = [(32.0 * i + 16, 32.0 * j + 16, 13.0) for j in range(32) for i in range(32)]


@pytest.mark.parametrize("mode", ["dense", "guided"])
def test_a_thousand_masks_of_4096_pixels_a_side_take_less_than_2_gb(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, embedding, runtime = scene(DISCS, (4096, 4096), seen=DISCS)
    answer = runtime.decode

    def decode(*arguments: Any, **prompts: Any) -> Any:
        runtime._known.clear()  # the scene's own memory is not what is measured
        return answer(*arguments, **prompts)

    monkeypatch.setattr(runtime, "decode", decode)
    everything = LabelSettings(confidence=0.0)
    given = Thresholds(
        SearchSettings(score_threshold=-1.0, stability_threshold=0.1),
        labels=everything,
        guided_labels=everything,
    )
    tracemalloc.start()
    try:
        found = Segmentation(predictor, embedding, mode, thresholds=given).run()
        labels = found.labels().labels
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert labels.shape == (4096, 4096)
    assert len(found.proposals) >= 1000
    assert labels.max() > 900  # confidence is at least 0, some of the scores are below
    assert peak < 2e9
