"""Proposals of a large plane in the dock: ``python -m benchmarks.proposals SIDE OBJECTS``.

A detector that costs nothing finds discs of 25 pixels, tile by tile. The lines say how long the
window is kept from the user while they appear, and while the filter's sliders are dragged, with the
whole plane on the screen and with a part of it; and how much memory the process held at most. There
is no window: drawing comes on top.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks.auto_in_tiles import discs_in_tiles, peak, say
from benchmarks.large_planes import Level, nuclei

#: What is on the screen: rows and columns.
SCREEN = (1000, 1600)


def measure(side: int, count: int) -> None:
    """Show proposals, and filter them."""
    from napari.components import ViewerModel

    from fake_inference import SteppedInference
    from fake_predictor import disc_predictor
    from napari_tinysam.everything import LabelSettings, Proposals
    from napari_tinysam.everything.joining import joined
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.state.coloring import choose_colors
    from napari_tinysam.ui.state.painted import FoundObjects, KeptPixels
    from napari_tinysam.ui.state.proposed import Proposed

    viewer, inference = ViewerModel(), SteppedInference()
    predictor, _ = disc_predictor()
    session = AnnotationSession(viewer, inference, load_predictor=lambda *_: predictor)
    session.set_active(True)
    field, _, _ = nuclei()
    levels = [
        Level(field, side, 2**n) for n in range(max(1, (side // 512).bit_length()))
    ]
    image: Any = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 255))
    inference.run_all()
    plane = session.shown_plane
    assert plane is not None
    say(f"a plane of {side:,}² in the viewer: {peak()}")

    found, painted, slowest = {}, FoundObjects(plane.shape), 0.0
    for look, own in discs_in_tiles(side, count):
        found[look] = own
        begun = time.perf_counter()
        for proposal in own:
            painted.add(proposal.mask)
        session.proposals.show_found(image, plane, painted)
        slowest = max(slowest, time.perf_counter() - begun)
    say(f"{len(painted):,} found; a tile is shown in {slowest:.3f} s at most; {peak()}")

    begun = time.perf_counter()
    from napari_tinysam.everything import tiles

    proposals = Proposals(joined(found, tiles(plane.shape)).kept, plane.shape)
    found.clear()
    rng = np.random.default_rng(0)
    proposals.scores[:] = np.sort(rng.uniform(0.4, 1, len(proposals)))[::-1]
    after = Proposed(
        proposals,
        LabelSettings(),
        choose_colors(proposals),
        kept=KeptPixels(proposals),
    )
    del painted
    session.proposals.forget_found()
    say(f"joined, in the background: {time.perf_counter() - begun:.1f} s; {peak()}")
    begun = time.perf_counter()
    session.proposals.replace(image, plane, after, "auto-segment")
    say(f"{session.proposals.count:,} shown: {time.perf_counter() - begun:.3f} s")
    layer: Any = session.proposals.layer.layer
    middle = side // 2
    for name, level, corners in (
        ("the whole plane", len(layer.data) - 1, None),
        (
            "a part at full size",
            0,
            np.array([np.full(2, middle), np.add(middle, SCREEN)]),
        ),
    ):
        layer._data_level = level
        if corners is not None:
            layer.corner_pixels = corners
        times, busy = [], time.process_time()
        for confidence in np.linspace(0.45, 0.95, 11).tolist():
            begun = time.perf_counter()
            session.proposals.set_settings(confidence=confidence)
            times.append(time.perf_counter() - begun)
        say(
            f"a slider moves, {name} on the screen: {np.median(times):.3f} s, at most "
            f"{max(times):.3f} s, {(time.process_time() - busy) / len(times):.3f} s of processor "
            f"time; {session.proposals.count:,} left"
        )
    say(peak())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", type=int)
    parser.add_argument("objects", type=int)
    given = parser.parse_args()
    measure(given.side, given.objects)


if __name__ == "__main__":
    main()
