"""Click small nuclei in large planes, without a window: ``python -m benchmarks.large_planes``.

For each size of the plane: the mean IoU of the masks with the truth, the seconds from opening the
image to the first mask (with the model loaded), and of the clicks after it. ``--pyramid`` clicks in
a pyramid of 100,000² pixels that is made as it is read, and prints the memory of the process;
``--window`` does so in a real window (``xvfb-run -a``), and prints its longest pauses.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

#: Height and width of the field that is repeated, and its nuclei.
FIELD, NUCLEI = (200, 280), 14


def nuclei() -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Return a field of bright discs of 18 to 28 pixels, their labels and their (y, x)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: FIELD[0], : FIELD[1]]
    image, labels = np.full(FIELD, 20.0), np.zeros(FIELD, np.uint8)
    places: list[tuple[int, int]] = []
    while len(places) < NUCLEI:
        cy, cx = (int(rng.integers(20, side - 20)) for side in FIELD)
        radius = int(rng.integers(9, 15))
        far = (y - cy) ** 2 + (x - cx) ** 2
        if labels[far <= (radius + 4) ** 2].any():
            continue
        places.append((cy, cx))
        labels[far <= radius**2] = len(places)
        image[far <= radius**2] = 160
    noise = rng.normal(0, 3, FIELD)
    return np.clip(image + noise, 0, 255).astype(np.uint8), labels, places


def tiled(field: np.ndarray, side: int) -> np.ndarray:
    """Repeat a field to a square."""
    rows, columns = (-(-side // length) for length in FIELD)
    return np.tile(field, (rows, columns))[:side, :side]


class Desk:
    """A session on a viewer without a window."""

    def __init__(self, predictor: Any) -> None:
        from napari.components import ViewerModel

        from fake_inference import SteppedInference
        from napari_tinysam.ui.session.facade import AnnotationSession

        self.viewer, self.inference = ViewerModel(), SteppedInference()
        self.session = AnnotationSession(
            self.viewer, self.inference, load_predictor=lambda *_: predictor
        )
        self.session.set_active(True)
        self.inference.run_all()

    def until(self, done: Callable[[], Any]) -> None:
        """Run what is asked for, the most urgent first, and nothing more."""
        while not done():
            self.inference.step()

    def click(self, y: float, x: float) -> Any:
        """Click and return the mask."""
        drafts, masks = self.session.drafts, self.session._parts.masks
        if not drafts.is_empty:
            self.session.next_object()
        self.session.click_at((y, x))
        self.until(lambda: masks.of(self.session.drafts.current))
        found = masks.of(self.session.drafts.current)
        assert found is not None
        return found.mask()


def planes(predictor: Any, sides: list[int]) -> None:
    """Print a line for each size."""
    image, labels, places = nuclei()
    desk = Desk(predictor)
    for side in sides:
        plane = tiled(image, side)
        begun, busy = time.perf_counter(), time.process_time()
        layer = desk.viewer.add_image(plane, name=f"{side}")
        first = rest = 0.0
        scores = []
        # The first field, one in the middle, and the last whole one.
        starts = [
            [FIELD[axis] * int(share * (side // FIELD[axis] - 1)) for axis in (0, 1)]
            for share in (0, 0.5, 1)
        ]
        for top, left in starts[: 1 if side <= 512 else 3]:
            for label, (y, x) in enumerate(places, 1):
                mask = desk.click(top + y, left + x)
                now = time.perf_counter()
                if not first:
                    first, busy = now - begun, time.process_time() - busy
                rest = now - begun - first
                truth = np.zeros(mask.shape, bool)
                truth[top : top + FIELD[0], left : left + FIELD[1]] = labels == label
                shared = np.count_nonzero(truth[mask.slices] & mask.mask)
                scores.append(shared / (truth.sum() + mask.area - shared))
        each = rest / (len(scores) - 1)
        sys.stdout.write(
            f"{side:6,}²: mean IoU {np.mean(scores):.3f}, least {np.min(scores):.3f}; "
            f"first mask after {first:.2f} s ({busy:.2f} s of processor time), "
            f"then {each:.3f} s each; "
            f"{desk.session.status.text}\n"
        )
        sys.stdout.flush()
        desk.session.clear()
        desk.viewer.layers.remove(layer)


class Level:
    """A level of a pyramid that is made as it is read."""

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, image: np.ndarray, side: int, step: int) -> None:
        self._image, self._step = image, step
        self.shape = (-(-side // step), -(-side // step))
        self.size = self.shape[0] * self.shape[1]
        self.read = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        """Make the pixels of two slices."""
        rows, columns = (
            np.arange(length)[each]
            for each, length in zip(key, self.shape, strict=True)
        )
        self.read += np.size(rows) * np.size(columns)
        return self._image[
            np.ix_(
                np.atleast_1d(rows) * self._step % FIELD[0],
                np.atleast_1d(columns) * self._step % FIELD[1],
            )
        ]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Make all pixels: napari does for the coarsest level."""
        return self[:, :].astype(dtype or self.dtype)


def pyramid(predictor: Any, side: int = 100_000) -> None:
    """Click and commit in a pyramid."""
    image, _, places = nuclei()
    levels = [Level(image, side, 2**number) for number in range(8)]
    desk = Desk(predictor)
    begun = time.perf_counter()
    layer = desk.viewer.add_image(levels, multiscale=True, contrast_limits=(0, 255))
    y, x = places[0]
    at = FIELD[0] * 250 + y, FIELD[1] * 180 + x
    # On the screen: 1,000 pixels around the place.
    corners = np.array([np.subtract(at, 500), np.add(at, 500)])
    layer._data_level = 0
    layer.corner_pixels = corners.astype(int)
    mask = desk.click(*at)
    first = time.perf_counter() - begun
    desk.session.commit()
    unit = 1e6 if sys.platform == "darwin" else 1e3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    target = desk.session.target
    sys.stdout.write(
        f"pyramid of {side:,}²: mask of {mask.area} pixels after {first:.2f} s; "
        f"{sum(level.read for level in levels) / 1e6:.0f} million pixels read; "
        f"{'committed' if target is not None else 'not committed'}; {memory:,.0f} MB\n"
    )


def in_window(side: int = 100_000) -> None:
    """Open a pyramid in the window, click three nuclei, commit each; print the longest pauses."""
    from benchmarks.hand import Walk
    from benchmarks.heart import Heart

    image, labels, places = nuclei()
    levels = [Level(image, side, 2**number) for number in range(8)]
    walk = Walk()
    session = walk.session
    walk.wait(lambda: session.status.kind.name != "LOADING", rest=2.0)
    top, left = FIELD[0] * 250, FIELD[1] * 180
    told = []
    heart, begun = Heart(), time.perf_counter()

    def tell(step: str) -> None:
        nonlocal heart, begun
        told.append(
            f"{step} {time.perf_counter() - begun:.2f} s "
            f"(pause {heart.pause:.0f} ms, own work {heart.work:.0f} ms)"
        )
        heart.stop()
        heart, begun = Heart(), time.perf_counter()

    walk.viewer.add_image(levels, multiscale=True, contrast_limits=(0, 255))
    walk.wait(lambda: session.image is not None, rest=0.0)
    tell("opened")
    walk.viewer.camera.center = (top + 100, left + 140)
    walk.viewer.camera.zoom = 2.0
    walk.wait(lambda: session.status.kind.name == "READY", rest=0.0)
    tell("zoomed in and read")
    scores, masks = [], session._parts.masks
    for number, (y, x) in enumerate(places[:3], 1):
        walk.point_at(top + y, left + x)
        walk.click()
        walk.wait(lambda: masks.of(session.drafts.current) is not None, rest=0.0)
        tell(f"click {number}")
        mask = masks.of(session.drafts.current).mask()
        y0, x0 = (part.start for part in mask.slices)
        truth = np.zeros(mask.mask.shape, bool)
        rows, columns = (np.arange(length) for length in mask.mask.shape)
        field = labels[np.ix_((rows + y0) % FIELD[0], (columns + x0) % FIELD[1])]
        truth = field == number
        shared = np.count_nonzero(truth & mask.mask)
        area = np.count_nonzero(labels == number)
        scores.append(shared / (area + mask.area - shared))
        walk.key("C")
        walk.wait(lambda: session.drafts.is_empty, rest=0.0)
        tell(f"commit {number}")
    heart.stop()
    unit = 1e6 if sys.platform == "darwin" else 1e3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    target = session.target
    read = sum(level.read for level in levels) / 1e6
    sys.stdout.write(
        f"window, pyramid of {side:,}²: {'; '.join(told)}; mean IoU {np.mean(scores):.3f}; "
        f"{read:.0f} million pixels read; "
        f"{'committed' if target is not None else 'not committed'}; {memory:,.0f} MB\n"
    )
    walk.viewer.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument(
        "--sides", type=int, nargs="*", default=[512, 2048, 4096, 6000, 8192]
    )
    parser.add_argument("--pyramid", action="store_true")
    parser.add_argument("--window", action="store_true")
    given = parser.parse_args()
    if given.window:
        in_window()
        return
    from napari_tinysam import load_model

    predictor = load_model(given.model)
    if given.pyramid:
        pyramid(predictor)
    else:
        planes(predictor, given.sides)


if __name__ == "__main__":
    main()
