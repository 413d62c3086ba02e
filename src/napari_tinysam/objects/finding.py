"""Object maps to labels: every object of an image at once, without any prompt.

The object head says for every place how probably it is foreground, how far it is from the centre of
its object and from the boundary of it. A watershed gives every peak of the latter its basin, and
basins that no clear saddle parts are one object. The maps are those of micro-sam's automatic
instance segmentation (Archit et al., Nature Methods 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.labels import renumbered
from napari_tinysam.masks import Upscaler
from napari_tinysam.objects.maps import boundary_distance, centre_distance

if TYPE_CHECKING:
    import numpy.typing as npt

#: Pixels of the model's frame along a side of one pixel that the watershed works on.
_STEP = 2

#: Pixels of the frame along a side of what settings call a value, however fine the maps are.
_VALUE = 4


@dataclass(frozen=True)
class ObjectSettings:
    """How object maps become objects.

    Parameters
    ----------
    foreground_threshold : float
        Least probability of foreground; higher values draw objects smaller, and fewer.
    seed_height : float
        Objects are peaks of the distance to the boundary that rise at least so high above the
        saddle to the next higher one (h-maxima; Soille, Morphological Image Analysis, section
        6.3.4). Lower values separate touching objects better; higher ones keep one object with
        several thick parts in one piece.
    least_depth : float
        Peaks lie at least so high themselves.
    smoothing : float
        Width (σ) of the Gaussian that the distance is smoothed with, in values of 4 pixels of the
        frame; 0 for none. More removes stray peaks, and joins small neighbours.
    minimum_area : float
        Least area of an object, in values of 16 square pixels of the frame.
    minimum_share : float
        Least area of an object, as share of the median object's in the image.
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
    # Working pixels in 4 pixels of the frame.
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


def confirmed(
    labels: npt.NDArray[np.int32],
    maps: npt.NDArray[np.float32],
    upscaler: Upscaler,
) -> npt.NDArray[np.float64]:
    """Say how well the maps agree with objects that were made of them.

    Objects whose maps contradict them, because they are two, or a part of one, or nothing, can be
    told so: on training images this goes with the true IoU (correlation 0.6 within a set).

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) int32, of `segment_objects` with the other arguments.
    maps, upscaler
        As there.

    Returns
    -------
    numpy.ndarray
        (N + 1,) float64 in 0–1 for each label; 1 for the background, place 0.
    """
    regions = np.zeros(maps.shape[1:], np.int32)
    # Pixels of the image in which the centres of the maps' values lie.
    centres = (np.arange(len(regions)) + 0.5) * (upscaler.frame_size / len(regions))
    rows, columns = (
        (centres * outer / inner).astype(np.intp)
        for outer, inner in zip(labels.shape, upscaler.input_size, strict=True)
    )
    rows, columns = rows[rows < labels.shape[0]], columns[columns < labels.shape[1]]
    regions[: len(rows), : len(columns)] = labels[np.ix_(rows, columns)]
    found = np.zeros(int(labels.max(initial=0)) + 1)
    some = confirmation(regions, maps)
    found[: len(some)] = some
    return found


def confirmation(
    regions: npt.NDArray[np.int32], maps: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Say how well the maps agree with objects at their own resolution.

    Parameters
    ----------
    regions : numpy.ndarray
        (h, w) int32: objects 1…N, 0 where there is none.
    maps : numpy.ndarray
        (3, h, w) float in 0–1: foreground, centre distance, boundary distance.

    Returns
    -------
    numpy.ndarray
        (N + 1,) in 0–1 for each object: mean foreground, times 1 minus the mean difference between
        both distances and those that the object has. 1 for the background, place 0.
    """
    inside = regions > 0
    numbers = regions[inside]
    count = int(regions.max(initial=0)) + 1
    area = np.maximum(np.bincount(numbers, minlength=count), 1)
    off = sum(
        np.abs(said - true(regions) / 255.0)[inside] / 2
        for said, true in ((maps[1], centre_distance), (maps[2], boundary_distance))
    )
    foreground = np.bincount(numbers, maps[0][inside], count) / area
    found = foreground * (1 - np.bincount(numbers, off, count) / area)
    found[0] = 1.0
    return np.asarray(found)


def usual_side(regions: npt.NDArray[np.integer]) -> float:
    """Side of the object in which a place of the foreground lies, on average; 0 where none is.

    Parameters
    ----------
    regions : ndarray of int, (h, w)

    Returns
    -------
    float
        In pixels of `regions`: the root of the mean area, large objects counting as much more as
        they are larger.
    """
    areas = np.bincount(regions.ravel())[1:].astype(np.float64)
    return float(np.sqrt((areas**2).sum() / max(areas.sum(), 1.0)))


def mean_confirmation(
    regions: npt.NDArray[np.int32], maps: npt.NDArray[np.float32]
) -> float:
    """Mean over objects of how well maps confirm them, see `confirmation`; 0 without objects."""
    found = confirmation(regions, maps)[1:]
    there = np.bincount(regions.ravel(), minlength=len(found) + 1)[1:] > 0
    return float(found[there].mean()) if there.any() else 0.0


def object_regions(
    maps: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_] | tuple[int, int],
    settings: ObjectSettings | None = None,
) -> npt.NDArray[np.int32]:
    """Find the objects of an image at the resolution of the decoder's logits.

    Parameters
    ----------
    maps : numpy.ndarray
        (3, h, w) float in 0–1, as for `segment_objects`, but with values of 4 pixels of the frame:
        finer ones are reduced before (`napari_tinysam.objects.maps.means_of_squares`).
    valid : numpy.ndarray of bool, (h, w), or (int, int)
        Where the image is, or height and width of its part at the top left; the rest is padding.
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
    """Size of the watershed's image: half the frame's resolution, or the image's if that is less.

    Borders are made smooth afterwards, so a finer one would only be slower.
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
    """Foreground to objects: (h, w) labels, with gaps in their numbers."""
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
    # Pieces of foreground without a peak are objects too, if unclear ones.
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
    """Join basins of peaks that do not rise high enough above the saddle to a higher one.

    Saddles are taken from the highest down, as in Kruskal's algorithm: where two groups of basins
    meet, the lower one's highest peak has its height there.
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
    """Depth of the highest pass between each two basins that touch, the deepest first."""
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
    """Drop small objects and number the others from 1; `scale` is pixels in a map's value."""
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
    """Labels at the size of `foreground`, inside it, with smooth borders.

    Each pixel goes to the object with the largest share of the softened labels around it, so that
    borders between objects do not show the pixels of the coarser image.
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
    """Target pixels whose centres lie in a part of the source."""
    scale = target / source
    return slice(int(np.ceil(part.start * scale)), int(np.floor(part.stop * scale)))
