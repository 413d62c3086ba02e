"""Masks as records, with the keys of Segment Anything's generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_tinysam.everything.proposals import Proposal
    from napari_tinysam.masks import BoxedMask


def records(
    proposals: Iterable[Proposal], *, rle: bool = False
) -> list[dict[str, Any]]:
    """Describe masks as Segment Anything's ``SamAutomaticMaskGenerator.generate`` does.

    Parameters
    ----------
    proposals : iterable of Proposal
        They may overlap.
    rle : bool
        Whether masks are run lengths (`run_lengths`) instead of arrays of the size of the image.

    Returns
    -------
    list of dict
        The keys and conventions of the generator. ``segmentation``: (H, W) bool or run lengths.
        ``area``: in pixels. ``bbox``: x, y of the mask's first pixel, then the distances to its
        last pixel along x and y, one less than width and height. ``predicted_iou``.
        ``point_coords``: [[x, y]]. ``stability_score``: exact if the lattice of the search is
        "official", else that of the logits, which differs by less than 0.03. ``crop_box``: x, y,
        width, height of the searched part, here the whole image. One key is new, ``found_by``: a
        `Source`.
    """
    found = []
    for proposal in proposals:
        x0, y0, x1, y1 = proposal.box
        mask = proposal.mask
        height, width = mask.shape
        found.append(
            {
                "segmentation": run_lengths(mask) if rle else mask.to_full(),
                "area": proposal.area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "predicted_iou": proposal.score,
                "point_coords": [list(proposal.point)],
                "stability_score": proposal.stability,
                "crop_box": [0, 0, width, height],
                "found_by": proposal.source,
            }
        )
    return found


def run_lengths(mask: BoxedMask) -> dict[str, Any]:
    """Encode a mask as COCO's uncompressed run lengths, down the columns.

    Parameters
    ----------
    mask : BoxedMask

    Returns
    -------
    dict
        ``size``: [H, W]. ``counts``: lengths of the runs, alternately outside and inside the mask;
        the first run is outside and may be 0.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask.mask.T)[::-1]  # sorted down the columns
    places = (columns + mask.x0) * height + rows + mask.y0
    if not places.size:
        return {"size": [height, width], "counts": [height * width]}
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], breaks + 1])]
    stops = places[np.concatenate([breaks, [len(places) - 1]])] + 1
    edges = np.stack([starts, stops], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    if stops[-1] == height * width:
        counts = counts[:-1]  # nothing is outside after the last run
    return {"size": [height, width], "counts": counts.tolist()}
