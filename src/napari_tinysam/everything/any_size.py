"""Segment everything in an image of any size: whole, or in tiles if it is large."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from napari_tinysam.everything.segmentation import Mode, Segmentation
from napari_tinysam.everything.tiled import TiledSegmentation, tiles
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import is_large
from napari_tinysam.inference.plane_looks import PlaneLooks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.everything.thresholds import Thresholds
    from napari_tinysam.inference.looks import LookGrid
    from napari_tinysam.inference.predictor import Predictor

#: "auto": large images are searched in tiles, whose side is chosen by what a few of them show;
#: "off": never; a number: all images are, in tiles of this side in pixels.
Tiles = Literal["auto", "off"] | int


def is_tiled(shape: tuple[int, int], tiles_of: Tiles) -> bool:
    """Whether an image of this height and width is searched in tiles."""
    return tiles_of != "off" and (isinstance(tiles_of, int) or is_large(shape))


def grid_of(plane: PlaneLooks, tiles_of: Tiles) -> LookGrid:
    """Return the tiles in which a plane is searched; where "auto" may choose others, the first.

    Raises
    ------
    ValueError
        If the side of tiles is below 1.
    """
    return tiles(plane.shape, tiles_of if isinstance(tiles_of, int) else FRAME)


def segmentation_of(
    predictor: Predictor,
    image: Any,
    mode: Mode = "auto",
    *,
    thresholds: Thresholds | None = None,
    tiles_of: Tiles = "auto",
    **to_rgb_options: Any,
) -> Segmentation | TiledSegmentation:
    """Prepare to segment an image, whole or in tiles.

    Parameters
    ----------
    predictor : Predictor
    image : array-like
        One plane, as for `Predictor.encode`. If it is searched in tiles, only one is held.
    mode, thresholds
        As for `Segmentation`.
    tiles_of : {"auto", "off"} or int
        See `Tiles`.
    **to_rgb_options
        As for `Predictor.encode`.

    Raises
    ------
    ValueError, TypeError
        If this is not an image, the side of tiles is below 1, or the model has no object head and
        the mode needs one.
    """
    # A plane may come with axes of length 1: such images are read whole, and so are lists.
    plain = hasattr(image, "shape") and len(image.shape) in (2, 3)
    if plain and tiles_of != "off" and 1 not in image.shape and 0 not in image.shape:
        looks = partial(PlaneLooks, image, **to_rgb_options)
        if isinstance(tiles_of, int) or max(image.shape) > FRAME:
            plane = looks()
            if is_tiled(plane.shape, tiles_of):
                embed = partial(plane.encode, predictor)
                grid = grid_of(plane, tiles_of)
                return TiledSegmentation(
                    predictor,
                    embed,
                    grid,
                    mode,
                    choose=tiles_of == "auto",
                    thresholds=thresholds,
                )
    embedding = predictor.encode(image, **to_rgb_options)
    return Segmentation(predictor, embedding, mode, thresholds=thresholds)


def segment_everything(
    image: Any,
    model: Predictor | str = "default",
    *,
    mode: Mode = "auto",
    settings: LabelSettings | None = None,
    thresholds: Thresholds | None = None,
    tiles_of: Tiles = "auto",
    **to_rgb_options: Any,
) -> npt.NDArray[np.int32]:
    """Segment all objects of an image, without any prompt.

    Parameters
    ----------
    image : array-like
        One plane, as for `Predictor.encode`.
    model : Predictor or str
        From `napari_tinysam.load_model`, or its argument.
    mode : str
        See `Mode`.
    settings : LabelSettings, optional
        Confidence, sizes, whole or parts; the model's own by default.
    thresholds : Thresholds, optional
        Of the search; the model's own by default.
    tiles_of : {"auto", "off"} or int
        Images of more than 1,536 pixels along a side are searched in tiles, unless this is "off".
        Their side is chosen by what a few of them show. A number: in tiles of this side in pixels.
    **to_rgb_options
        As for `Predictor.encode`.

    Returns
    -------
    ndarray of int32, (H, W)
        Objects 1…N, those with the highest scores first; 0 is background.

    Raises
    ------
    ValueError, TypeError
        If this is not an image, or the model has no object head and the mode needs one.
    napari_tinysam.checkpoints.CheckpointError
        If the model cannot be loaded.
    """
    from napari_tinysam.inference.load import load_model

    predictor = load_model(model) if isinstance(model, str) else model
    segmentation = segmentation_of(
        predictor,
        image,
        mode,
        thresholds=thresholds,
        tiles_of=tiles_of,
        **to_rgb_options,
    )
    return segmentation.run().labels(settings).labels
