"""A viewer with a session, without window and thread, for tests of what the session does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

from fake_inference import ImmediateInference
from fake_predictor import disc_predictor
from napari_tinysam.ui.canvas.preview import HOVER, KEPT, OBJECT, WAITING
from napari_tinysam.ui.session.facade import AnnotationSession


def noise(*shape: int, seed: int = 1, name: str = "cells", **options: Any) -> Image:
    """Random values between 0 and 1."""
    return Image(np.random.default_rng(seed).random(shape), name=name, **options)


@dataclass
class Desk:
    """A viewer, its session, and what the user was told."""

    viewer: ViewerModel
    session: AnnotationSession
    inference: Any
    runtime: Any
    told: list[tuple[str, str]] = field(default_factory=list)

    @property
    def image(self) -> Image:
        assert self.session.image is not None
        return self.session.image

    def world(self, x: float, y: float) -> Any:
        plane = self.session.shown_plane
        assert plane is not None
        return self.image.data_to_world(plane.data_position((x, y)))

    def click(self, x: float, y: float, label: int | None = None) -> None:
        self.session.click_at(self.world(x, y), label)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        start, end = self.world(x0, y0), self.world(x1, y1)
        self.session.drag_box(start, end, done=False)
        self.session.drag_box(start, end, done=True)

    @property
    def ids(self) -> list[int]:
        """Ids in the labels layer, without the background."""
        target = self.session.target
        return [] if target is None else np.unique(target.data)[1:].tolist()

    def preview_pixels(self) -> dict[str, int]:
        """How many pixels the preview shows of each kind: "hover", "current", "waiting", "kept"."""
        preview = self.session._parts.masks.preview
        if preview.shown is None or preview.layer not in self.viewer.layers:
            return {}
        pixels: dict[str, int] = {}
        for mask, look in preview.shown.looks:
            name = {
                HOVER: "hover",
                OBJECT: "current",
                KEPT: "kept",
                WAITING: "waiting",
            }[look]
            pixels[name] = pixels.get(name, 0) + mask.area
        return pixels


def open_desk(*layers: Any, inference: Any = None, **options: Any) -> Desk:
    viewer = ViewerModel()
    for layer in layers:
        viewer.add_layer(layer)
    predictor, runtime = disc_predictor()
    told: list[tuple[str, str]] = []
    inference = inference or ImmediateInference()
    options.setdefault("load_predictor", lambda *_: predictor)
    session = AnnotationSession(
        viewer, inference, notify=lambda *message: told.append(message), **options
    )
    session.set_active(True)
    return Desk(viewer, session, inference, runtime, told)
