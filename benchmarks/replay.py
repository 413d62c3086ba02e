"""Ten scripted sessions with the bundled model, made again: ``python -m benchmarks.replay``.

Each session clicks, boxes, chooses, corrects, merges, splits, paints or follows objects of a
synthetic image, with undo in between. Its provenance is written and read again; the same model must
give the same labels. Then another model gets the same prompts.

    python -m benchmarks.replay                        # default, then default-int8
    python -m benchmarks.replay --other mobile-sam
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from desk import open_desk
from fake_inference import QueuedInference
from napari_tinysam import Predictor, load_model
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.journal.folder import ENVIRONMENT_VARIABLE
from napari_tinysam.journal.provenance_file import read_provenance, to_text
from napari_tinysam.masks import BoxedMask
from napari_tinysam.replay.again import replay
from napari_tinysam.replay.comparison import compare
from napari_tinysam.replay.image import ReplayedImage
from replay.sessions import Session
from tinysam_training.synthetic import entries

SIDE = 512


class Script:
    """A session on a synthetic image, and where its objects truly are."""

    def __init__(self, predictor: Predictor, seed: int, kind: str, planes: int = 1):
        entry = entries(1, seed=seed, kinds=(kind,), size=(SIDE, SIDE))[0].read()
        pixels = entry.rgb[..., 0].astype(np.uint16) * 16
        options: dict[str, Any] = {}
        if planes > 1:
            pixels = np.stack([np.roll(pixels, 2 * n, 1) for n in range(planes)])
            options["axis_labels"] = ("z", "y", "x")
        desk = open_desk(
            Image(pixels, name="cells", **options),
            inference=QueuedInference(),
            load_predictor=lambda *_: predictor,
        )
        desk.inference.turn()
        self.one = Session(desk, pixels)
        labels = entry.labels[0]
        self.masks = [
            BoxedMask.from_full(labels == label)
            for label in np.unique(labels[labels > 0])
        ]
        self.masks.sort(key=lambda mask: -mask.area)

    def click(self, number: int) -> None:
        self.one.click(*self.masks[number].deepest)

    def commit(self, *numbers: int) -> None:
        for number in numbers:
            self.click(number)
            self.one.commit()

    def edit(self, number: int) -> None:
        self.one.desk.session.clear()
        self.one.edit(*self.masks[number].deepest)

    def do(self, name: str, *arguments: Any) -> None:
        self.one.do(getattr(self.one.desk.session, name), *arguments)


def clicks(s: Script) -> None:
    s.commit(*range(8))


def boxes(s: Script) -> None:
    for mask in s.masks[:8]:
        s.one.box(*mask.box)
        s.do("next_object")
    s.one.commit()


def candidates(s: Script) -> None:
    for number in range(6):
        s.click(number)
        s.do("set_candidate", number % 3)
        s.one.commit()


def edits(s: Script) -> None:
    s.commit(*range(5))
    for number in range(3):
        s.edit(number)
        x0, y0, x1, y1 = s.masks[number].box
        s.one.click(x0 + 0.3 * (x1 - x0), (y0 + y1) / 2)
        s.one.click(x1 + 4.0, y1 + 4.0, 0)
        s.one.commit()


def merges(s: Script) -> None:
    s.commit(*range(6))
    for first, second in ((0, 1), (2, 3)):
        s.edit(first)
        s.do("merge_objects")
        s.click(second)
    s.do("undo")


def splits(s: Script) -> None:
    s.commit(*range(5))
    for number in range(3):
        s.edit(number)
        x0, y0, x1, y1 = s.masks[number].box
        s.one.click(x0 + 0.3 * (x1 - x0), (y0 + y1) / 2)
        s.one.click(x0 + 0.7 * (x1 - x0), (y0 + y1) / 2)
        s.do("split_object")


def automatic(s: Script) -> None:
    s.commit(0, 1)
    s.do("auto_segment")
    s.one.do(s.one.desk.session.proposals.accept_all)
    s.edit(2)
    s.click(2)
    s.one.commit()


def undo_and_redo(s: Script) -> None:
    s.commit(*range(6))
    for name in ("undo", "undo", "undo", "redo", "redo"):
        s.do(name)
    s.edit(1)
    s.do("delete_object")
    s.do("undo")
    s.do("clear")
    s.commit(7)


def painting(s: Script) -> None:
    s.commit(0, 1, 2)
    target = s.one.desk.session.target
    assert target is not None
    x, y = s.masks[0].deepest
    s.one.do(target.paint, (round(y), round(x) + 8), 1)
    s.one.do(target.paint, (20, 20), 50)
    s.one.do(target.paint, (round(y), round(x) - 6), 0)
    s.edit(1)
    s.click(1)
    s.one.commit()


def following(s: Script) -> None:
    s.one.show(2)
    s.commit(0, 1)
    for number in (0, 1):
        s.one.do(
            s.one.desk.session.hover_at, s.one.desk.world(*s.masks[number].deepest)
        )
        s.do("follow_object")
    s.one.show(3)
    s.commit(3)


SCRIPTS: tuple[Callable[[Script], None], ...] = (
    *(clicks, boxes, candidates, edits, merges, splits),
    *(automatic, undo_and_redo, painting, following),
)


def main() -> None:
    """Run the sessions and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", default="default-int8", help="the other model")
    chosen = parser.parse_args()
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ[ENVIRONMENT_VARIABLE] = folder
        predictor, other = load_model("default"), load_model(chosen.other)
        rows, ious = [], []
        for number, script in enumerate(SCRIPTS):
            kind = ("nuclei", "tissue", "yeast")[number % 3]
            session = Script(
                predictor, 2**31 - 2 - number, kind, 5 if script is following else 1
            )
            script(session)
            path = Path(folder) / "cells_provenance.json"
            path.write_text(to_text(session.one.told()), encoding="utf-8")
            told, image = read_provenance(path), ReplayedImage(session.one.pixels)
            begun = time.perf_counter()
            same = compare(told, replay(told, image, lambda model: predictor))
            seconds = time.perf_counter() - begun
            new = compare(told, replay(told, image, lambda model: other))
            ious += [each.iou for each in new.predicted]
            rows.append(
                (
                    script.__name__,
                    kind,
                    len(told.actions),
                    len(told.objects),
                    f"{path.stat().st_size / 1000:.0f}",
                    f"{seconds:.1f}",
                    "yes" if same.identical else f"no: IoU {same.mean:.4f}",
                    len(new.predicted),
                    f"{new.mean:.3f}",
                )
            )
    header = ("session", "image", "actions", "objects", "kB", "replay, s")
    more = ("same labels", "predicted again", f"IoU with {chosen.other}")
    lines = [
        f"{predictor.name}, {predictor.runtime_name}\n",
        markdown_table((*header, *more), rows),
        f"\n{len(ious)} masks of {chosen.other}: mean IoU {np.mean(ious):.3f}, median "
        f"{np.median(ious):.3f}, least {min(ious):.3f}; {other.runtime_name}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
