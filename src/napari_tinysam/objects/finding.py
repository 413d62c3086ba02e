"""Object maps to labels: every object of an image at once, without any prompt.

At each place the object head predicts the probability of foreground and the distances to the centre
and to the boundary of the object. A watershed gives each peak of the boundary distance a basin, and
basins without a clear saddle between them are merged. The maps are those of micro-sam's automatic
instance segmentation (Archit et al., Nature Methods 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.labels import renumbered
from napari_tinysam.masks import Upscaler

if TYPE_CHECKING:
    import numpy.typing as npt

#: Side of one pixel of the watershed, in pixels of the model's frame.
_STEP = 2

#: Side of what the settings call a value, in pixels of the frame, however fine the maps are.
_VALUE = 4


@dataclass(frozen=True)
class ObjectSettings:
    """How object maps become objects.

    Parameters
    ----------
    foreground_threshold : float
        Least probability of foreground; higher values give smaller and fewer objects.
    seed_height : float
        Least height of a peak of the boundary distance above the saddle to the next higher peak
        (h-maxima; Soille, Morphological Image Analysis, section 6.3.4). Lower values separate
        touching objects better; higher ones keep an object with several thick parts in one piece.
    least_depth : float
        Least height of a peak itself.
    smoothing : float
        Width (σ) of the Gaussian that smooths the distance, in values of 4 pixels of the frame; 0
        for none. More smoothing removes stray peaks and joins small neighbours.
    minimum_area : float
        Least area of an object, in values of 16 square pixels of the frame.
    minimum_share : float
        Least area of an object, as a share of the median area in the image.
    """

    foreground_threshold: float = 0.5
    seed_height: float = 0.15
    least_depth: float = 0.3
    smoothing: float = 0.5
    minimum_area: float = 3.0
    minimum_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("foreground_threshold", "seed_height", "least_depth"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name} lies between 0 and 1; got {value}.")
        for name in ("smoothing", "minimum_area", "minimum_share"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} is not negative; got {value}.")


def segment_objects(
    maps: npt.NDArray[np.float32],
    upscaler: Upscaler,
    settings: ObjectSettings | None = None,
) -> npt.NDArray[np.int32]:
    """Find the objects of an image in its object maps.

    Parameters
    ----------
    maps : numpy.ndarray
        (3, m, m) float in 0–1, m being 256 or 512: foreground, centre distance, boundary distance,
        from `Predictor.object_maps`.
    upscaler : Upscaler
        `Embedding.upscaler` of the image.
    settings : ObjectSettings, optional
        Thresholds.

    Returns
    -------
    numpy.ndarray
        (H, W) int32 at the size of the image: objects 1…N, 0 where there is none.

    Raises
    ------
    ValueError
        If the maps have another shape.
    """
    settings = settings or ObjectSettings()
    if np.ndim(maps) != 3 or len(maps) != 3:
        raise ValueError(f"Three object maps are needed; got shape {np.shape(maps)}.")
    maps = np.asarray(maps, np.float32)
    size = _working_size(upscaler)
    to_working = Upscaler(upscaler.input_size, size, upscaler.frame_size)
    # Pixels of the watershed in 4 pixels of the frame.
    scale = [
        _VALUE * inside / frame
        for inside, frame in zip(size, upscaler.input_size, strict=True)
    ]
    threshold = settings.foreground_threshold
    foreground, boundary = to_working.full(np.asarray(maps[::2], np.float32))
    labels = _grow(foreground >= threshold, boundary, scale, settings)
    labels = _without_small(labels, scale[0] * scale[1], settings)
    if size == upscaler.original_size:
        return labels
    return _upscaled(labels, upscaler.full(maps[0]) >= threshold)


def usual_side(regions: npt.NDArray[np.integer]) -> float:
    """Average side of the object around a foreground pixel; 0 without objects.

    Parameters
    ----------
    regions : ndarray of int, (h, w)

    Returns
    -------
    float
        In pixels of `regions`: the root of the mean area, with each object weighted by its area.
    """
    areas = np.bincount(regions.ravel())[1:].astype(np.float64)
    return float(np.sqrt((areas**2).sum() / max(areas.sum(), 1.0)))


def object_regions(
    maps: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_] | tuple[int, int],
    settings: ObjectSettings | None = None,
) -> npt.NDArray[np.int32]:
    """Find the objects of an image at the resolution of the decoder's logits.

    Parameters
    ----------
    maps : numpy.ndarray
        (3, h, w) float in 0–1, as for `segment_objects`, but with values of 4 pixels of the frame.
        Reduce finer maps first (`napari_tinysam.objects.maps.means_of_squares`).
    valid : numpy.ndarray of bool, (h, w), or (int, int)
        Where the image is, or the height and width of the image at the top left; the rest is
        padding.
    settings : ObjectSettings, optional
        Thresholds.

    Returns
    -------
    numpy.ndarray
        (h, w) int32: objects 1…N, 0 where there is none.
    """
    settings = settings or ObjectSettings()
    foreground, _, boundary = maps
    inside = foreground >= settings.foreground_threshold
    if isinstance(valid, tuple):
        inside = inside.copy()
        inside[valid[0] :] = False
        inside[:, valid[1] :] = False
    else:
        inside = inside & valid
    labels = _grow(inside, boundary, [1.0, 1.0], settings)
    return _without_small(labels, 1.0, settings)


def _working_size(upscaler: Upscaler) -> tuple[int, int]:
    """Size of the watershed: half the resolution of the frame, or that of the image if it is less.

    Borders are smoothed afterwards, so a finer watershed would only be slower.
    """
    height, width = (
        min(outer, -(-inner // _STEP))
        for inner, outer in zip(
            upscaler.input_size, upscaler.original_size, strict=True
        )
    )
    return height, width


def _grow(
    foreground: npt.NDArray[np.bool_],
    boundary: npt.NDArray[np.float32],
    scale: list[float],
    settings: ObjectSettings,
) -> npt.NDArray[np.int32]:
    """Turn foreground into objects: (h, w) labels, with gaps in their numbers."""
    from scipy import ndimage as ndi
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    if settings.smoothing:
        sigma = [settings.smoothing * factor for factor in scale]
        boundary = ndi.gaussian_filter(boundary, sigma, mode="nearest", truncate=3.0)
    depth = np.where(foreground, boundary, 0).astype(np.float32)
    around = np.ones((3, 3), bool)
    tops = local_maxima(depth, connectivity=2) & foreground
    peaks, count = ndi.label(tops, around)
    # Pieces of foreground without a peak are objects too, though unclear ones.
    pieces, number = ndi.label(foreground, around)
    has_peak = np.zeros(number + 1, bool)
    has_peak[pieces[tops]] = True
    has_peak[0] = True
    peaks = np.where(has_peak[pieces], peaks, pieces + count)
    basins = watershed(-depth, peaks, mask=foreground, connectivity=2)
    return _merged(basins, depth, settings)


def _merged(
    basins: npt.NDArray[np.integer],
    depth: npt.NDArray[np.float32],
    settings: ObjectSettings,
) -> npt.NDArray[np.int32]:
    """Merge basins whose peak does not rise high enough above the saddle to a higher peak.

    Saddles are visited from the highest down, as in Kruskal's algorithm. Where two groups of basins
    meet, that saddle decides the height of the lower group's highest peak.
    """
    count = int(basins.max()) + 1
    top = np.zeros(count, np.float32)
    np.maximum.at(top, basins.ravel(), depth.ravel())
    group, label, highest = list(range(count)), list(range(count)), top.tolist()

    def root(parents: list[int], number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for height, first, second in _saddles(basins, depth, count):
        higher, lower = root(group, first), root(group, second)
        if higher == lower:
            continue
        if highest[higher] < highest[lower]:
            higher, lower = lower, higher
        peak = highest[lower]
        if peak - height < settings.seed_height or peak < settings.least_depth:
            label[root(label, second)] = root(label, first)
        group[lower] = higher
    roots = np.array([root(label, number) for number in range(count)], np.int32)
    return np.asarray(roots[basins], np.int32)


def _saddles(
    basins: npt.NDArray[np.integer], depth: npt.NDArray[np.float32], count: int
) -> list[tuple[float, int, int]]:
    """(depth, basin, basin) of the highest pass between basins that touch, the deepest first."""
    keys, heights = [], []
    height, width = basins.shape
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: height - down, max(0, -across) : width - max(0, across)]
        there = np.s_[down:, max(0, across) : width - max(0, -across)]
        one, other = basins[here], basins[there]
        meet = (one != other) & (one > 0) & (other > 0)
        one, other = one[meet].astype(np.int64), other[meet].astype(np.int64)
        keys.append(np.minimum(one, other) * count + np.maximum(one, other))
        heights.append(np.minimum(depth[here][meet], depth[there][meet]))
    key, passes = np.concatenate(keys), np.concatenate(heights)
    pairs, place = np.unique(key, return_inverse=True)
    best = np.zeros(len(pairs), np.float32)
    np.maximum.at(best, place, passes)
    order = np.argsort(-best, kind="stable")
    return [
        (float(best[i]), int(pairs[i] // count), int(pairs[i] % count)) for i in order
    ]


def _without_small(
    labels: npt.NDArray[np.int32], scale: float, settings: ObjectSettings
) -> npt.NDArray[np.int32]:
    """Drop small objects and number the rest from 1; `scale` is the pixels in a value."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    there = areas > 0
    if not there.any():
        return labels
    least = max(
        settings.minimum_area * scale,
        settings.minimum_share * float(np.median(areas[there])),
    )
    kept = there & (areas >= least)
    return renumbered(labels, kept)


def _upscaled(
    labels: npt.NDArray[np.int32], foreground: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Upscale labels to the size of `foreground`, inside it, with smooth borders.

    Each pixel goes to the object with the largest share of the softened labels around it. So
    borders between objects do not show the coarser pixels.
    """
    from scipy import ndimage as ndi

    shape = foreground.shape
    weights = [
        _linear_weights(*sizes) for sizes in zip(labels.shape, shape, strict=True)
    ]
    best = np.zeros(shape, np.float32)
    fine = np.zeros(shape, np.int32)
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        if box is None:
            continue
        coarse = tuple(
            slice(max(0, side.start - 2), min(length, side.stop + 2))
            for side, length in zip(box, labels.shape, strict=True)
        )
        share = ndi.uniform_filter((labels[coarse] == number).astype(np.float32), 3)
        rows, columns = (
            _reading(side, source, target)
            for side, source, target in zip(coarse, labels.shape, shape, strict=True)
        )
        wy = weights[0][rows, coarse[0]]
        wx = weights[1][columns, coarse[1]]
        share = wy @ share @ wx.T
        more = share > best[rows, columns]
        best[rows, columns][more] = share[more]
        fine[rows, columns][more] = number
    fine[~foreground] = 0
    return renumbered(fine, np.bincount(fine.ravel()) > 0)


def _linear_weights(source: int, target: int) -> npt.NDArray[np.float32]:
    """(target, source) weights of a linear interpolation between pixel centres."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    away = np.abs(position[:, np.newaxis] - np.arange(source))
    return np.asarray(np.maximum(0, 1 - away), np.float32)


def _reading(part: slice, source: int, target: int) -> slice:
    """Target pixels with their centre in a part of the source."""
    scale = target / source
    return slice(int(np.ceil(part.start * scale)), int(np.floor(part.stop * scale)))
