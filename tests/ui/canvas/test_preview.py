"""What the preview shows: outlines as wide on the screen at every zoom, and kinds told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from desk import open_desk
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.canvas.preview import HOVER, KEPT, OBJECT, Preview
from napari_tinysam.ui.state.planes import shown_plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari.viewer

SHAPE = (200, 300)


def block(y0: int, x0: int, y1: int, x1: int) -> BoxedMask:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return BoxedMask.from_full(mask)


def pixels(level: float | Sequence[float] = 0, **options: Any) -> Image:
    """Give every pixel one value, or one colour."""
    data = np.zeros((*SHAPE, *np.shape(level)), np.uint8)
    data[...] = level
    if np.shape(level):
        return Image(data, rgb=True, **options)
    return Image(data, contrast_limits=(0, 255), **options)


def shown(image: Image, *masks: BoxedMask, **options: Any) -> tuple[Any, Preview]:
    viewer = ViewerModel()
    viewer.add_layer(image)
    preview = Preview(viewer)
    preview.show(image, shown_plane(image, viewer.dims), masks, **options)
    return viewer, preview


def margin(preview: Preview, mask: BoxedMask, zoom: float) -> float:
    """How far the outline reaches beyond the upper edge of a mask, in screen pixels."""
    assert preview.layer is not None
    return zoom * (mask.y0 - 0.5 - float(preview.layer.vertices[:, 0].min()))


def test_outlines_are_as_wide_on_the_screen_at_every_zoom() -> None:
    mask = block(50, 50, 150, 150)
    viewer, preview = shown(pixels(), mask)
    margins = []
    for zoom in (0.05, 0.4, 1.0, 7.0, 60.0):
        viewer.scene.camera.zoom = zoom
        margins.append(margin(preview, mask, zoom))
    wide = OBJECT.line.width / 2 + OBJECT.line.rim + 0.5
    # Below, masks are traced on blocks of pixels half a screen pixel large.
    np.testing.assert_allclose(margins, wide, atol=0.6)


LOOKS = (HOVER, KEPT, OBJECT)


def test_the_current_object_kept_ones_and_what_hovers_are_told_apart() -> None:
    desk = open_desk(pixels())
    desk.click(60, 60)
    desk.session.next_object()
    assert set(desk.preview_pixels()) == {"kept"}
    desk.session.hover_at(desk.world(200, 100))
    assert set(desk.preview_pixels()) == {"kept", "hover"}
    desk.click(200, 100)
    assert set(desk.preview_pixels()) == {"kept", "current"}
    # Not by hue alone: by width, dashes and how much is filled.
    assert len({(look.line.width, look.line.dash > 0) for look in LOOKS}) == 3
    assert len({look.opacity for look in LOOKS}) == 3


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_a_plane_of_a_stack_has_its_outline_and_no_other(
    order: tuple[int, ...],
) -> None:
    image = Image(np.zeros((40, 60, 80), np.uint8), scale=(3, 1, 2))
    viewer = ViewerModel()
    viewer.add_layer(image)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 5)
    preview = Preview(viewer)
    plane = shown_plane(image, viewer.dims)
    mask = np.zeros(plane.shape, bool)
    mask[10:20, 15:30] = True
    preview.show(image, plane, [BoxedMask.from_full(mask)])
    assert preview.layer is not None
    vertices = preview.layer.data[0]
    np.testing.assert_array_equal(vertices[:, order[0]], 5)
    np.testing.assert_allclose(vertices[:, order[1]].mean(), 14.5, atol=0.5)
    np.testing.assert_allclose(vertices[:, order[2]].mean(), 22, atol=0.5)


def test_the_viewer_loses_the_layer_or_the_image_while_something_is_shown() -> None:
    image = pixels()
    viewer, preview = shown(image, block(50, 50, 90, 90))
    viewer.layers.remove("current_object")
    viewer.scene.camera.zoom = 5
    preview.show(image, shown_plane(image, viewer.dims), [block(5, 5, 9, 9)])
    assert "current_object" in viewer.layers
    viewer.layers.remove(image)
    viewer.scene.camera.zoom = 9
    preview.clear()
    preview.remove()
    viewer.scene.camera.zoom = 2
    assert not viewer.layers


def test_no_slider_reaches_beyond_the_image_for_a_line_at_its_edge() -> None:
    image = Image(np.zeros((5, *SHAPE), np.uint8), scale=(2, 0.3, 0.3))
    viewer = ViewerModel()
    viewer.add_layer(image)
    before = viewer.dims.range
    preview = Preview(viewer)
    plane = shown_plane(image, viewer.dims)
    preview.show(image, plane, [block(0, 0, 200, 300)])
    assert viewer.dims.range == before
    viewer.add_labels(
        np.zeros(SHAPE, int), scale=(0.3, 0.3)
    )  # layers are measured anew
    preview.clear()
    assert viewer.dims.range == before


BACKGROUNDS = {
    "dark": 10,
    "mid-gray": 128,
    "bright": 245,
    "eosin": (236, 170, 215),
    "haematoxylin": (90, 70, 160),
}


@pytest.mark.gl
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_outlines_can_be_read_on_every_background(
    make_napari_viewer: Any, background: str
) -> None:
    """In brightness alone, as a colour-blind eye or a gray printout sees them."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(900, 700)
    image = pixels(BACKGROUNDS[background])
    viewer.add_layer(image)
    preview = Preview(viewer)
    plane = shown_plane(image, viewer.dims)
    kept, current, hover = (block(70, x, 130, x + 50) for x in (20, 120, 220))
    preview.show(image, plane, [kept, current], hover=[hover])
    for zoom in (0.5, 1.7, 12.0):
        for mask, look in ((kept, KEPT), (current, OBJECT), (hover, HOVER)):
            light = _brightness_across(viewer, mask, zoom)
            assert np.ptp(light) > 0.25, (look, zoom)


def _brightness_across(
    viewer: napari.viewer.Viewer, mask: BoxedMask, zoom: float
) -> np.ndarray:
    """Brightness across the upper edge of a mask, from outside to its middle, 0–1."""
    viewer.scene.camera.center = (mask.y0 - 0.5, mask.x0 + 25)
    viewer.scene.camera.zoom = zoom
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3] / 255
    light = picture @ (0.2126, 0.7152, 0.0722)
    middle, column = light.shape[0] // 2, light.shape[1] // 2
    # Dashes: the brightest and the darkest of a few columns.
    strip = light[middle - 8 : middle + 8, column - 8 : column + 8]
    return np.asarray(strip.max(axis=1))
