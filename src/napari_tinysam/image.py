"""Any image plane → the uint8 RGB image that the model sees. numpy only.

One place decides what a channel is, how NaN is read and how contrast is chosen, so that the viewer,
the command line and training all show the model the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import MAX_CHANNELS

if TYPE_CHECKING:
    import numpy.typing as npt

#: Percentiles of the plane that become black and white when no limits are given.
PERCENTILES = (0.1, 99.9)

#: Percentiles are read from at most about this many pixels, on a regular lattice.
_PERCENTILE_SAMPLE = 2_000_000

#: Pixels whose contrast is stretched at once.
_STRETCH_PART = 4_000_000

#: And at once where they are looked up.
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

    uint8 RGB is returned as it is and uint8 RGBA without its alpha channel. Anything else has its
    contrast stretched: gray and single channels by themselves, RGB of other types with one stretch
    for the three channels, so that colours keep their hue.

    Parameters
    ----------
    image : array-like
        (Y, X), (Y, X, C) or (C, Y, X) of bool, integer or float; numpy, dask, zarr or anything that
        `numpy.asarray` reads. Axes of length 1 beyond two are ignored. NaN counts as black, ±inf
        as white and black, and none of them counts for the percentiles.
    channel : int or sequence of int, optional
        Which channel of a multichannel image to use, or two or three of them for red, green (and
        blue), each with a contrast of its own. Without it, three or four channels on the last axis
        are RGB(A), and the first channel of any other image is used.
    channel_axis : int, optional
        The axis of the channels. Without it the last axis where that has 3 or 4 entries (or is the
        shortest), the first axis where that is the shortest of at most 16.
    contrast_limits : (float, float), optional
        Values that become black and white, in place of the percentiles; for RGB and channels too.
    percentiles : (float, float)
        Percentiles of the finite values that become black and white. Where both have the same
        value, minimum and maximum are used; a constant plane becomes black.

    Returns
    -------
    numpy.ndarray
        (Y, X, 3), uint8.

    Raises
    ------
    ValueError
        If the image has no pixels, not one plane, or not the channel asked for.
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
    """Convert one image plane as `to_rgb` does, but leave gray what is gray.

    What is made smaller afterwards, takes a third of the time so.

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
    axis = _channel_axis(array.shape, channel_axis)
    if axis is None:
        if channel not in (None, 0):
            raise ValueError(
                f"Channel {channel} was asked for, but the image of shape "
                f"{array.shape} has no channels."
            )
        return _stretch(array, contrast_limits, percentiles)[..., np.newaxis]
    channels = np.moveaxis(array, axis, -1)  # (Y, X, C)
    if channel is None and _is_rgb(channels.shape, axis, array.ndim):
        rgb = channels[..., :3]
        if rgb.dtype == np.uint8 and contrast_limits is None:
            return np.ascontiguousarray(rgb)
        if contrast_limits is None and _is_unit_interval(rgb):
            contrast_limits = (0.0, 1.0)  # how viewers show float RGB
        return np.ascontiguousarray(_stretch(rgb, contrast_limits, percentiles))
    chosen = _chosen_channels(channel, channels.shape[-1])
    planes = [
        _stretch(channels[..., index], contrast_limits, percentiles) for index in chosen
    ]
    if len(planes) == 1:
        return planes[0][..., np.newaxis]
    while len(planes) < 3:  # two channels: red and green
        planes.append(np.zeros_like(planes[0]))
    return np.stack(planes, axis=-1)


def as_rgb(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give gray its three channels: (Y, X, 1) or (Y, X, 3) to (Y, X, 3) uint8."""
    return plane if plane.shape[2] == 3 else np.repeat(plane, 3, axis=2)


def _as_plane(image: Any, channel_axis: int | None) -> npt.NDArray[Any]:
    """Read the array and drop axes of length 1 until at most three are left."""
    array = np.asarray(image)
    known = channel_axis is not None and array.ndim == 3  # its axes have their meaning
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


def _channel_axis(shape: tuple[int, ...], wanted: int | None) -> int | None:
    """Which axis holds channels; None for a plane without."""
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
        f"Which axis of the shape {shape} holds the channels is not clear. "
        "Pass channel_axis, or one plane of a stack."
    )


def _is_rgb(shape: tuple[int, ...], axis: int, ndim: int) -> bool:
    return axis == ndim - 1 and shape[-1] in (3, 4)


def _is_unit_interval(rgb: npt.NDArray[Any]) -> bool:
    if rgb.dtype.kind != "f":
        return False
    finite = rgb[np.isfinite(rgb)]
    return bool(finite.size and finite.min() >= 0 and finite.max() <= 1)


def _chosen_channels(channel: Channels | None, count: int) -> list[int]:
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
    # A part at a time: the values in between take up to eight times the memory of the result.
    rows = max(1, _STRETCH_PART // max(1, plane[0].size))
    for first in range(0, len(plane), rows):
        part = slice(first, first + rows)
        stretched[part] = _stretch_part(plane[part], low, high)
    return stretched


def _stretch_part(
    part: npt.NDArray[Any], low: float, high: float
) -> npt.NDArray[np.uint8]:
    # float64 only where float32 could not tell neighbouring values apart
    exact: type[np.floating[Any]]
    exact = np.float32 if part.dtype in (np.float16, np.float32) else np.float64
    # and a quarter of everything where differences would exceed the type's range
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
    # So few rows at a time that the indices, of 8 bytes each, stay in a cache.
    rows = max(1, _TABLE_PART // max(1, plane[0].size))
    for first in range(0, len(plane), rows):
        part = slice(first, first + rows)
        places = plane[part]
        if info.min < 0:
            places = places.astype(np.int32) - info.min
        # No place is beyond the table; "clip" only spares a second array.
        np.take(table, places, out=stretched[part], mode="clip")


def _percentile_limits(
    plane: npt.NDArray[Any], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Values of the percentiles; minimum and maximum where those coincide."""
    step = max(1, int(np.ceil(np.sqrt(plane.size / _PERCENTILE_SAMPLE))))
    sample = plane[::step, ::step]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            return 0.0, 0.0
    if sample.dtype.kind in "ui" and sample.dtype.itemsize <= 2:
        low, high = _counted_percentiles(sample, percentiles)
    else:
        # A quarter, because the difference of two values must not exceed the range of float64.
        quarter = sample.astype(np.float64) * 0.25
        low, high = (4.0 * float(v) for v in np.percentile(quarter, percentiles))
    if low < high:
        return low, high
    finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
    return float(finite.min()), float(finite.max())


def _counted_percentiles(
    sample: npt.NDArray[Any], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """`numpy.percentile` of 8- and 16-bit integers, by counting them: a sixth of the time."""
    least = np.iinfo(sample.dtype).min
    shifted = sample if least == 0 else sample.astype(np.int32) - least
    below = np.cumsum(np.bincount(shifted.ravel()))  # how many are at most each value
    # Between two values of the sorted sample, as numpy's "linear" method has it.
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
