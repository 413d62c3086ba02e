"""Take the screenshots of the documentation, with the bundled model and the demo's image.

Run ``python docs/screenshots.py [FOLDER]`` on a screen, or put
``xvfb-run -a -s "-screen 0 1920x1200x24"`` before it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import imageio.v3 as iio
import napari
import numpy as np
import tifffile
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.poorly_known import write_sheathed
from benchmarks.similar import drawn

from napari_tinysam.cli import demo as cli_demo
from napari_tinysam.ui.state.region import Region
from tinysam_training.synthetic.volumes import synthetic_movie, synthetic_volume

#: A nucleus to point at and then click, and a place beside it: x, y.
NUCLEUS, BESIDE = (35, 81), (44, 72)

#: Nuclei of the stack to follow: plane, y, x.
NUCLEI_OF_THE_STACK = (
    (10, 231, 78),
    (10, 44, 154),
    (8, 157, 82),
    (20, 141, 171),
    (14, 183, 134),
)


def main(folder: Path) -> None:
    """Write ``annotate``, ``hover``, ``edit``, ``auto``, ``files``, ``images`` and others."""
    folder.mkdir(parents=True, exist_ok=True)
    image = cli_demo.image()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 820)
    limits = tuple(float(value) for value in np.percentile(image, (0.1, 99.9)))
    layer = viewer.add_image(image, name="nuclei", contrast_limits=limits)
    _, dock = viewer.window.add_plugin_dock_widget("napari-tinysam", "TinySAM")
    session: Any = dock.session

    def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > seconds:
                raise TimeoutError(session.status)
            QApplication.processEvents()
            time.sleep(0.005)

    def wait(seconds: float = 0.5) -> None:
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > seconds)

    def world(x: float, y: float) -> Any:
        return layer.data_to_world((y, x))

    def click(x: float, y: float, *label: int) -> None:
        session.click_at(world(x, y), *label)
        wait_for(lambda: session.candidate_scores != ())

    def shoot(name: str) -> None:
        wait()
        for told in viewer.window._qt_window.findChildren(NapariQtNotification):
            told.close()
        wait(0.1)
        path = folder / f"{name}.png"
        if not viewer.window._qt_window.grab().save(str(path)):
            raise OSError(f"{path} cannot be written.")

    wait_for(lambda: session.status.kind.name == "READY")
    viewer.fit_to_view()
    viewer.scene.camera.center = (0, 95, 100)
    viewer.scene.camera.zoom *= 1.35
    middles = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in cli_demo.BOXES]
    for x, y in middles[:6]:
        click(x, y)
        session.commit()
    session.hover_at(world(*NUCLEUS))
    wait_for(
        lambda: (
            session._parts.masks.preview.shown is not None
            and session._parts.masks.preview.shown.hover
        )
    )
    shoot("hover")
    click(*NUCLEUS)
    click(*BESIDE, 0)
    shoot("annotate")
    session.commit()
    session.set_edit_mode(True)
    session.click_at(world(*middles[2]))
    dock._scrolling.ensureWidgetVisible(dock.edit)
    shoot("edit")
    dock._scrolling.verticalScrollBar().setValue(0)
    session.clear()
    session.set_edit_mode(False)
    session.auto_segment()
    wait_for(lambda: not session.auto.running)
    shoot("auto")
    session.proposals.discard()
    with TemporaryDirectory() as made:
        images = Path(made) / "nuclei"
        images.mkdir()
        for number in range(12):
            iio.imwrite(images / f"field_{number:02}.tif", np.rot90(image, number))
        session.auto.set_region(Region.FILES)
        session.files.choose([images])
        session.auto_segment()
        wait_for(lambda: len(session.files.results) > 4)
        dock._scrolling.reveal(dock.auto_section, True)
        shoot("files")
        session.files.cancel()
        wait_for(lambda: not session.files.running)
    session.auto.set_region(Region.PLANE)

    viewer.layers.clear()
    with TemporaryDirectory() as made:
        fields = Path(made) / "nuclei"
        write_fields(fields, image)
        session.listed.open_paths([fields])
        wait_for(lambda: session.listed.current is not None)
        for number in range(4):
            wait_for(lambda: session.status.kind.name == "READY")
            session.auto_segment()
            wait_for(lambda: session.proposals.count > 0 and not session.auto.running)
            session.proposals.accept_all()
            session.proposals.discard()
            if number < 3:
                before = session.listed.current
                session.finish_image()
                wait_for(lambda before=before: session.listed.current is not before)
        for name in ("mitosis", "resting"):
            session.classifying.add(name)
        labels = session.target
        for label in np.unique(labels.data)[1:]:
            y, x = np.argwhere(labels.data == label)[0]
            session.hover_at(session.image.data_to_world((y, x)))
            session.classifying.give(1 if label % 4 == 0 else 2)
        last = fields / "field_04.tif"
        wait_for(lambda: session.listed.thumbnails.of(last) is not None)
        wait()
        dock._scrolling.verticalScrollBar().setValue(30)
        shoot("images")
        session.listed.leave_list()

    # Four of ten images are annotated, and the model is adapted to them.
    viewer.layers.clear()
    with TemporaryDirectory() as made:
        os.environ["NAPARI_TINYSAM_MODELS"] = str(Path(made) / "models")
        fibres = Path(made) / "fibres"
        truth = write_sheathed(fibres, side=320)
        for number, labels in enumerate(truth[:4]):
            tifffile.imwrite(fibres / f"fibres_{number:02}_labels.tif", labels)
        session.listed.open_paths([fibres])
        wait_for(lambda: session.listed.current is not None)
        session.listed.mark_labelled()
        session.listed.go_to(4)
        wait_for(lambda: session.listed.images.at == 4)
        wait_for(lambda: session.status.kind.name == "READY")
        wait_for(lambda: session.adapting.found.is_enough)
        dock.clicks_section.collapse()
        dock.adapt_section.expand()
        session.adapting.set(name="My fibres")
        dock._scrolling.reveal(dock.adapt_section, True)
        shoot("adapt-ready")
        session.adapting.set(minutes=2.0)
        session.adapt()
        wait_for(lambda: len(session.adapting.curve.scores) > 3)
        dock._scrolling.reveal(dock.adapt_section, True)
        shoot("adapt-running")
        wait_for(lambda: session.adapting.result is not None)
        dock.adapt.use.click()
        dock.adapt.show_it.click()
        wait_for(lambda: session.comparison.shown)
        wait_for(lambda: session.status.kind.name == "READY")
        dock._scrolling.reveal(dock.adapt_section, True)
        shoot("adapt-result")
        dock.adapt.show_it.click()
        dock.adapt.back.click()
        session.adapting.put_away()
        session.listed.leave_list()
    dock.clicks_section.expand()

    # A ring is committed, and others like it are asked for.
    viewer.layers.clear()
    field = drawn("filling", 10)
    layer = viewer.add_image(field.image, name="field")
    viewer.fit_to_view()
    wait_for(lambda: session._parts.embedder.embedding is not None)
    ring = field.masks[int(np.flatnonzero(field.kinds)[0])].centre
    click(*ring)
    session.commit()
    wait_for(lambda: session.target is not None)
    session.hover_at(world(*ring))
    session.find_similar()
    wait_for(lambda: session.proposals.ranking is not None)
    session.stop_hover()
    dock.clicks_section.collapse()
    dock._scrolling.reveal(dock.auto_section, True)
    shoot("similar")
    dock.clicks_section.expand()
    viewer.layers.clear()

    rng = np.random.default_rng(1002)
    stack = synthetic_volume(rng, (30, 256, 256), 12).image
    layer = viewer.add_image(stack, name="stack", axis_labels=("z", "y", "x"))
    viewer.fit_to_view()
    for plane, y, x in NUCLEI_OF_THE_STACK:
        viewer.dims.set_point(0, plane)
        wait_for(lambda: session._parts.embedder.embedding is not None)
        session.click_at(layer.data_to_world((plane, y, x)))
        wait_for(lambda: session.candidate is not None)
        session.follow_object()
        wait_for(lambda: session.follower.running)
        wait_for(lambda: not session.follower.running)
    shoot("follow")

    viewer.layers.clear()
    movie = synthetic_movie(np.random.default_rng(3), (24, 256, 256), 14).image
    viewer.add_image(movie, name="movie", axis_labels=("t", "y", "x"))
    viewer.fit_to_view()
    session.auto.set_region(Region.ALL_PLANES)
    session.set_then_link(True)
    session.auto_segment()
    wait_for(lambda: not (session.all_planes.running or session.tracking.running))
    wait_for(lambda: "movie tracks" in viewer.layers)
    viewer.dims.set_point(0, 16)
    dock.clicks_section.collapse()
    dock.through_section.collapse()
    dock._scrolling.reveal(dock.link_section, True)
    shoot("tracks")
    viewer.close()
    wait()


def write_fields(folder: Path, image: Any) -> None:
    """Write ten images that look like fields of one sample: the demo's image, turned and cut."""
    folder.mkdir()
    for number in range(10):
        turned = np.rot90(image, number)[:, :: -1 if number > 3 else 1]
        iio.imwrite(folder / f"field_{number:02}.tif", np.ascontiguousarray(turned))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
