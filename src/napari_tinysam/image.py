"""Any image plane → the uint8 RGB image that the model sees. numpy only.

Channels, NaN and contrast are handled here alone, so the viewer, the command line and training all
give the model the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import MAX_CHANNELS

if TYPE_CHECKING:
    import numpy.typing as npt

#: Percentiles of the plane that become black and white without given limits.
PERCENTILES = (0.1, 99.9)

#: Percentiles are computed from about this many pixels at most, on a regular lattice.
_PERCENTILE_SAMPLE = 2_000_000

#: Pixels whose contrast is stretched at once.
_STRETCH_PART = 4_000_000

#: Pixels that are looked up in a table at once.
_TABLE_PART = 100_000

Channels = int | Sequence[int]


def to_rgb(
    image: Any,
    *,
    channel: Channels | None = None,
    channel_axis: int | None = None,
    contrast_limits: tuple[float, float] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
) -> npt.NDArray[np.uint8]:
    """Convert one image plane to 8-bit RGB.

    uint8 RGB is returned unchanged, and uint8 RGBA without its alpha channel. The contrast of other
    images is stretched: gray and single channels each on their own, RGB of other types with one
    stretch for all three channels, so that colours keep their hue.

    Parameters
    ----------
    image : array-like
        (Y, X), (Y, X, C) or (C, Y, X) of bool, integer or float; numpy, dask, zarr or anything that
        `numpy.asarray` reads. Axes of length 1 beyond two are ignored. NaN becomes black, ±inf
        white and black; the percentiles ignore them.
    channel : int or sequence of int, optional
        The channel of a multichannel image to use, or two or three channels for red, green (and
        blue), each with its own contrast. By default, three or four channels on the last axis are
        RGB(A), and of any other image the first channel is used.
    channel_axis : int, optional
        The axis of the channels. By default the last axis if it has 3 or 4 entries (or is the
        shortest), or the first axis if it is the shortest, with at most 16 entries.
    contrast_limits : (float, float), optional
        Values that become black and white instead of the percentiles, also for RGB and channels.
    percentiles : (float, float)
        Percentiles of the finite values that become black and white. If both have the same value,
        minimum and maximum are used; a constant plane becomes black.

    Returns
    -------
    numpy.ndarray
        (Y, X, 3), uint8.

    Raises
    ------
    ValueError
        If the image has no pixels, is not one plane, or lacks the channel.
    TypeError
        If its values are not numbers (or are complex).
    """
    plane = to_eight_bits(
        image,
        channel=channel,
        channel_axis=channel_axis,
        contrast_limits=contrast_limits,
        percentiles=percentiles,
    )
    return as_rgb(plane)


def to_eight_bits(
    image: Any,
    *,
    channel: Channels | None = None,
    channel_axis: int | None = None,
    contrast_limits: tuple[float, float] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
) -> npt.NDArray[np.uint8]:
    """Convert one image plane like `to_rgb`, but keep gray images gray.

    Resizing them afterwards takes a third of the time.

    Parameters
    ----------
    image, channel, channel_axis, contrast_limits, percentiles
        As for `to_rgb`, with the same errors.

    Returns
    -------
    numpy.ndarray
        (Y, X, 3), or (Y, X, 1) where the three would be the same; uint8.
    """
    array = _as_plane(image, channel_axis)
    _check_dtype(array.dtype)
    axis = channel_axis_of(array.shape, channel_axis)
    if axis is None:
        if channel not in (None, 0):
            raise ValueError(
                f"Channel {channel} was asked for, but the image of shape "
                f"{array.shape} has no channels."
            )
        return _stretch(array, contrast_limits, percentiles)[..., np.newaxis]
    channels = np.moveaxis(array, axis, -1)  # (Y, X, C)
    if channel is None and is_rgb(channels.shape, axis, array.ndim):
        rgb = channels[..., :3]
        if rgb.dtype == np.uint8 and contrast_limits is None:
            return np.ascontiguousarray(rgb)
        if contrast_limits is None and _is_unit_interval(rgb):
            contrast_limits = (0.0, 1.0)  # how viewers show float RGB
        return np.ascontiguousarray(_stretch(rgb, contrast_limits, percentiles))
    chosen = chosen_channels(channel, channels.shape[-1])
    planes = [
        _stretch(channels[..., index], contrast_limits, percentiles) for index in chosen
    ]
    if len(planes) == 1:
        return planes[0][..., np.newaxis]
    while len(planes) < 3:  # two channels: red and green
        planes.append(np.zeros_like(planes[0]))
    return np.stack(planes, axis=-1)


def contrast_limits_of(
    sample: Any, *, percentiles: tuple[float, float] = PERCENTILES
) -> tuple[float, float] | None:
    """Find the values that `to_rgb` makes black and white, from some pixels of a plane.

    Parameters
    ----------
    sample : array-like
        (Y, X) gray, or (Y, X, 3 or 4) RGB(A).
    percentiles : (float, float)
        As for `to_rgb`.

    Returns
    -------
    (float, float) or None
        None where the values are kept, as in RGB of 8 bits, or where all pixels are the same.
    """
    pixels = np.asarray(sample)
    _check_dtype(pixels.dtype)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
        if pixels.dtype == np.uint8:
            return None
        if _is_unit_interval(pixels):
            return 0.0, 1.0
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    low, high = _percentile_limits(pixels, percentiles)
    return (low, high) if low < high else None


def as_rgb(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give gray its three channels: (Y, X, 1) or (Y, X, 3) to (Y, X, 3) uint8."""
    return plane if plane.shape[2] == 3 else np.repeat(plane, 3, axis=2)


def _as_plane(image: Any, channel_axis: int | None) -> npt.NDArray[Any]:
    """Read the array and drop its axes of length 1; the axes of colours stay."""
    array = np.asarray(image)
    known = channel_axis is not None and array.ndim == 3  # its axes are known
    while array.ndim > 2 and 1 in array.shape and not known:
        # The outermost first: a plane one pixel high keeps its own axes.
        if array.ndim == 3 and array.shape[-1] in (3, 4):
            break  # (1, X, 3): colours, one pixel high
        if array.ndim == 3 and array.shape[0] != 1 and array.shape[-1] != 1:
            break  # (Y, 1, C): one pixel wide
        array = array.squeeze(axis=array.shape.index(1))
    if array.ndim not in (2, 3):
        raise ValueError(
            f"An image plane has two axes, or three with channels; got shape "
            f"{np.shape(image)}. Pass one plane of a stack."
        )
    if array.size == 0:
        raise ValueError(f"The image has no pixels: its shape is {array.shape}.")
    return array


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        raise TypeError(f"An image of numbers is needed; got dtype {dtype}.")


def channel_axis_of(shape: tuple[int, ...], wanted: int | None) -> int | None:
    """Find the axis of the channels; None for a plane without channels."""
    if len(shape) == 2:
        return None
    if wanted is not None:
        if not -len(shape) <= wanted < len(shape):
            raise ValueError(f"The image of shape {shape} has no axis {wanted}.")
        return wanted % len(shape)
    first, last = shape[0], shape[-1]
    if last in (3, 4):
        return 2
    if first <= MAX_CHANNELS and first < min(shape[1:]):
        return 0
    if last <= MAX_CHANNELS and last < min(shape[:2]):
        return 2
    raise ValueError(
        f"It is unclear which axis of the shape {shape} holds the channels. "
        "Pass channel_axis, or one plane of a stack."
    )


def is_rgb(shape: tuple[int, ...], axis: int, ndim: int) -> bool:
    """Whether three or four channels on this axis are colours."""
    return axis == ndim - 1 and shape[-1] in (3, 4)


def _is_unit_interval(rgb: npt.NDArray[Any]) -> bool:
    if rgb.dtype.kind != "f":
        return False
    finite = rgb[np.isfinite(rgb)]
    return bool(finite.size and finite.min() >= 0 and finite.max() <= 1)


def chosen_channels(channel: Channels | None, count: int) -> list[int]:
    """List the channels to show, of a number of them; the first by default."""
    if channel is None:
        return [0]
    chosen = [channel] if isinstance(channel, int | np.integer) else list(channel)
    if not 1 <= len(chosen) <= 3:
        raise ValueError(f"One to three channels can be shown, not {len(chosen)}.")
    for index in chosen:
        if not -count <= index < count:
            raise ValueError(
                f"Channel {index} was asked for, but the image has {count} channels."
            )
    return [int(index) for index in chosen]


def _stretch(
    plane: npt.NDArray[Any],
    contrast_limits: tuple[float, float] | None,
    percentiles: tuple[float, float],
) -> npt.NDArray[np.uint8]:
    """Scale values linearly so that the limits become 0 and 255."""
    if plane.dtype == np.bool_:
        plane = plane.astype(np.uint8)
    low, high = contrast_limits or _percentile_limits(plane, percentiles)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"Contrast limits must be finite; got {(low, high)}.")
    stretched = np.zeros(plane.shape, np.uint8)
    if high <= low:
        return stretched
    if plane.dtype.kind in "ui" and plane.dtype.itemsize <= 2:
        _stretch_by_table(plane, low, high, stretched)
        return stretched
    # In parts: intermediate values take up to eight times the memory of the result.
    rows = max(1, _STRETCH_PART // max(1, plane[0].size))
    for first in range(0, len(plane), rows):
        part = slice(first, first + rows)
        stretched[part] = _stretch_part(plane[part], low, high)
    return stretched


def _stretch_part(
    part: npt.NDArray[Any], low: float, high: float
) -> npt.NDArray[np.uint8]:
    # float64 only if float32 could not tell neighbouring values apart.
    exact: type[np.floating[Any]]
    exact = np.float32 if part.dtype in (np.float16, np.float32) else np.float64
    # A quarter of all values if differences would exceed the range of the type.
    unit = 0.25 if high - low > float(np.finfo(exact).max) else 1.0
    low, high = low * unit, high * unit
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: npt.NDArray[np.floating[Any]] = part.astype(exact)
        if unit != 1.0:
            scaled = scaled * exact(unit)
        scaled = (scaled - exact(low)) * exact(255.0 / (high - low))
    scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.asarray(np.rint(np.clip(scaled, 0.0, 255.0)), np.uint8)


def _stretch_by_table(
    plane: npt.NDArray[Any], low: float, high: float, stretched: npt.NDArray[np.uint8]
) -> None:
    """`_stretch` of 8- and 16-bit integers through a table of their 256 or 65,536 values."""
    info = np.iinfo(plane.dtype)
    values = np.arange(info.min, info.max + 1, dtype=np.float64)
    table = np.rint(np.clip((values - low) * (255.0 / (high - low)), 0, 255))
    table = table.astype(np.uint8)
    # Few rows at a time, so that their indices of 8 bytes each stay in a cache.
    rows = max(1, _TABLE_PART // max(1, plane[0].size))
    for first in range(0, len(plane), rows):
        part = slice(first, first + rows)
        places = plane[part]
        if info.min < 0:
            places = places.astype(np.int32) - info.min
        # All indices are inside the table; "clip" only saves a second array.
        np.take(table, places, out=stretched[part], mode="clip")


def _percentile_limits(
    plane: npt.NDArray[Any], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Values of the percentiles; minimum and maximum if those are equal."""
    step = max(1, int(np.ceil(np.sqrt(plane.size / _PERCENTILE_SAMPLE))))
    sample = plane[::step, ::step]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            return 0.0, 0.0
    if sample.dtype.kind in "ui" and sample.dtype.itemsize <= 2:
        low, high = _counted_percentiles(sample, percentiles)
    else:
        # A quarter, because a difference of two values may exceed the range of float64.
        quarter = sample.astype(np.float64) * 0.25
        low, high = (4.0 * float(v) for v in np.percentile(quarter, percentiles))
    if low < high:
        return low, high
    finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
    return float(finite.min()), float(finite.max())


def _counted_percentiles(
    sample: npt.NDArray[Any], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Compute percentiles of 8- and 16-bit integers by counting: six times faster than numpy's."""
    least = np.iinfo(sample.dtype).min
    shifted = sample if least == 0 else sample.astype(np.int32) - least
    below = np.cumsum(
        np.bincount(shifted.ravel())
    )  # number of pixels at or below each value
    # Between two values of the sorted sample, like numpy's method "linear".
    places = np.asarray(percentiles, np.float64) / 100 * (sample.size - 1)
    if not ((places >= 0) & (places <= sample.size - 1)).all():
        raise ValueError(f"Percentiles lie between 0 and 100; got {percentiles}.")
    lower = np.floor(places)
    upper = np.minimum(lower + 1, sample.size - 1)
    first, second = (
        np.searchsorted(below, each, side="right") + float(least)
        for each in (lower, upper)
    )
    low, high = first + (second - first) * (places - lower)
    return float(low), float(high)
