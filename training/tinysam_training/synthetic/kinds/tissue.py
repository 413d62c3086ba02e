"""Stained tissue in colour: H&E, immunohistochemistry, cytology. The objects are the nuclei."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
    one_of,
)
from tinysam_training.synthetic.layout import Layout, place
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline

#: Optical densities of red, green and blue for one unit of a dye.
_HAEMATOXYLIN = (0.62, 0.70, 0.29)
_EOSIN = (0.08, 0.95, 0.28)
_DAB = (0.32, 0.58, 0.76)
_VIOLET = (0.55, 0.85, 0.12)
_GIEMSA = (0.75, 0.70, 0.22)


def tissue(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Nuclei in stained tissue: glands around lumens, stroma with spindle nuclei, lymphocytes.

    Colours follow the Beer–Lambert law: the densities of the dyes add up, and each colour is
    transmitted as the exponential of their negative sum (Ruifrok & Johnston 2001).
    """
    diameter = max(6.5, object_diameter(rng, size, 13, 150))
    stain = one_of(rng, ("h&e", "ihc", "cytology"), (5, 3, 2))
    first, second, third = _dyes(rng, stain)
    fibre, direction = textures.fibres(
        rng, size, max(1.5, 0.22 * diameter), 1.8 * diameter, rng.uniform(0.5, 1.6)
    )
    regions = textures.fractal_noise(rng, size, max(4 * diameter, max(size) / 6), 3)
    counter, lumen = _ground(rng, fibre, regions, diameter, stain)

    scene = Scene(size)
    nuclear = np.zeros(size, np.float32)
    brown = np.zeros(size, np.float32)
    grain = textures.fractal_noise(rng, size, max(1.5, diameter / 5), 3, 0.8)
    contrast = rng.uniform(0.08, 0.4)
    rim = np.float32(rng.uniform(0, 0.5))
    edge_width = np.float32(max(0.8, 0.07 * diameter))
    positive = rng.uniform(0.1, 0.8) if stain == "ihc" else 0.0
    variation = rng.uniform(0.08, 0.3)
    cell_light = rng.uniform(0, 0.6)
    for cy, cx, radius in _nuclei_places(rng, size, diameter, lumen):
        row = int(np.clip(cy, 0, size[0] - 1))
        col = int(np.clip(cx, 0, size[1] - 1))
        if lumen[row, col] > 0.5:
            continue
        outline = _nucleus(rng, (cy, cx), radius, regions, direction, (row, col))
        patch = outline.patch(size, margin=0.4 * radius)
        if patch is None or not scene.is_free(patch, 0.45):
            continue
        scene.add_on_top(patch)
        texture = textures.crop(rng, grain, patch.depth.shape)
        dark = float(np.clip(np.exp(rng.normal(0, variation)), 0.55, 2.0))
        open_chromatin = np.float32(contrast * rng.uniform(0.5, 1.6))
        density = np.clip(1 + open_chromatin * texture, 0.3, 1.8)
        density += rim * np.exp(-((patch.depth / edge_width) ** 2))
        density *= np.float32(dark)
        soft = np.clip(patch.depth / edge_width + 0.5, 0, 1)
        if cell_light:  # paler cytoplasm around the nucleus
            around = np.clip(1 + patch.depth / np.float32(0.4 * radius), 0, 1)
            counter[patch.rows, patch.cols] *= 1 - np.float32(cell_light) * around
        if happens(rng, positive):
            strength = np.float32(rng.uniform(0.5, 1.3))
            layer, shade = brown, density * strength
            nuclear[patch.rows, patch.cols] *= 1 - 0.6 * soft
        else:
            layer, shade = nuclear, density
        part = layer[patch.rows, patch.cols]
        part *= 1 - soft
        part += shade * soft
    if happens(rng, 0.3):
        _out_of_plane(rng, nuclear, diameter, lumen)
    if stain == "h&e" and happens(rng, 0.35):
        _red_cells(rng, counter, scene, diameter)
    sigma = rng.uniform(0.3, max(0.7, 0.03 * diameter))
    nuclear = optics.blurred(nuclear, sigma) * np.float32(log_uniform(rng, 0.6, 1.6))
    density = nuclear[..., None] * first + counter[..., None] * second
    if third is not None and brown.any():
        brown = optics.blurred(brown, sigma)
        density += brown[..., None] * third
    paper = np.array(rng.uniform(0.86, 1.0), np.float32) * np.clip(
        rng.normal(1, 0.02, 3), 0.92, 1.0
    )
    light = optics.illumination(rng, size, 0.06)
    image = np.exp(-density) * light[..., None] * paper.astype(np.float32)
    image = np.asarray(np.clip(image, 0, 1), np.float32)
    photo = optics.photograph(
        rng, image, photons=(800, 20000), read_noise=(0.001, 0.01), blur=(0.0, 0.28)
    )
    return photo, scene.labels


def _dyes(
    rng: np.random.Generator, stain: str
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Draw the densities of the nuclear dye, the ground and a marker, which vary between labs."""
    nuclear, ground = _HAEMATOXYLIN, _EOSIN
    if stain == "ihc":
        ground = (0.45, 0.55, 0.40) if happens(rng, 0.6) else _DAB
    elif stain == "cytology":
        nuclear = _VIOLET if happens(rng, 0.5) else _GIEMSA
        ground = nuclear if happens(rng, 0.6) else _EOSIN

    def varied(dye: tuple[float, float, float]) -> FloatArray:
        densities = np.array(dye) * np.exp(rng.normal(0, 0.18, 3))
        return np.asarray(densities, np.float32)

    return varied(nuclear), varied(ground), varied(_DAB) if stain == "ihc" else None


def _ground(
    rng: np.random.Generator,
    fibre: FloatArray,
    regions: FloatArray,
    diameter: float,
    stain: str,
) -> tuple[FloatArray, FloatArray]:
    """Draw the density between the nuclei, and the empty share of each pixel."""
    size = (fibre.shape[0], fibre.shape[1])
    if stain == "cytology" and happens(rng, 0.6):
        level = log_uniform(rng, 0.05, 0.4)
        smear = textures.fractal_noise(rng, size, max(4.0, 2 * diameter), 3)
        ground = level * np.clip(1 + 0.35 * smear + 0.15 * fibre, 0.1, None)
        return np.asarray(ground, np.float32), np.zeros(size, np.float32)
    base = log_uniform(rng, 0.15, 0.6)
    cells = textures.fractal_noise(rng, size, max(3.0, 1.2 * diameter), 4, 0.65)
    stroma = np.clip(regions * 2 + 0.5, 0, 1)  # soft regions of fibres
    fibrous = np.clip(
        0.9 + np.float32(rng.uniform(0.08, 0.3)) * fibre + 0.12 * cells, 0.15, 2
    )
    cellular = np.clip(0.8 + 0.3 * cells, 0.1, 2.0)
    ground = np.float32(base) * (stroma * fibrous + (1 - stroma) * cellular)
    empty = np.zeros(size, np.float32)
    if happens(rng, 0.5):  # lumens, vessels, fat, tears
        holes = textures.fractal_noise(rng, size, max(5 * diameter, max(size) / 7), 2)
        level = rng.uniform(0.6, 1.8)
        empty = np.clip((holes - np.float32(level)) * np.float32(12), 0, 1)
    if happens(rng, 0.5):  # cracks between fibres
        cracks = np.clip((fibre - 1.9) * 2 + cells, 0, 1) * stroma
        empty = np.maximum(empty, 0.9 * cracks)
    empty = np.asarray(empty, np.float32)
    ground = ground * (1 - empty) + np.float32(0.02)
    return np.asarray(ground, np.float32), empty


def _nuclei_places(
    rng: np.random.Generator,
    size: tuple[int, int],
    diameter: float,
    lumen: FloatArray,
) -> npt.NDArray[np.float64]:
    """Draw row, column and radius of nuclei, many in rows along the edges of lumens."""
    coverage = log_uniform(rng, 0.03, 0.4)
    count = object_count(size, diameter, coverage, most=220)
    radii = diameter / 2 * np.exp(rng.normal(0, rng.uniform(0.1, 0.25), count))
    crowd = Layout(
        clustering=rng.uniform(0, 0.6),
        touching=rng.uniform(0, 0.25),
        spacing=rng.uniform(0.7, 1.05),
    )
    places = place(rng, size, radii, crowd)
    step = 4
    rim = (lumen[::step, ::step] > 0.02) & (lumen[::step, ::step] < 0.6)
    ys, xs = np.nonzero(rim)
    if len(ys) == 0:
        return places
    chosen = rng.permutation(len(ys))[: max(1, len(ys) // 4)][:90]
    lining = np.column_stack(
        [
            step * ys[chosen] + rng.normal(0, 0.5 * diameter, len(chosen)),
            step * xs[chosen] + rng.normal(0, 0.5 * diameter, len(chosen)),
            diameter / 2 * np.exp(rng.normal(0, 0.1, len(chosen))),
        ]
    )
    return np.concatenate([lining, places])


def _nucleus(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    regions: FloatArray,
    direction: FloatArray,
    at: tuple[int, int],
) -> Outline:
    """Choose a spindle along the fibres in stroma, round or oval elsewhere."""
    if regions[at] > 0.2 and happens(rng, 0.75):
        ratio = np.sqrt(rng.uniform(1.6, 4.5))
        angle = float(direction[at]) + rng.normal(0, 0.25)
        radius = 0.9 * radius
    else:
        ratio = np.sqrt(rng.uniform(1.0, 1.7))
        angle = rng.uniform(0, np.pi)
    radial = shapes.lobed(rng, rng.uniform(0.02, 0.07), 6)
    if happens(rng, 0.15):
        radial = radial * shapes.kidney(rng, rng.uniform(0.1, 0.35))
    return Outline(*centre, radius * ratio, radius / ratio, angle, radial)


def _out_of_plane(
    rng: np.random.Generator, nuclear: FloatArray, diameter: float, lumen: FloatArray
) -> None:
    """Add pale, blurred nuclei of another depth of the section, in place."""
    size = (nuclear.shape[0], nuclear.shape[1])
    other = np.zeros(size, np.float32)
    for _ in range(int(rng.integers(3, 40))):
        at = rng.uniform(0, 1, 2) * size
        outline = Outline(
            at[0], at[1], 0.6 * diameter, 0.4 * diameter, rng.uniform(0, 3)
        )
        patch = outline.patch(size)
        if patch is not None:
            part = other[patch.rows, patch.cols]
            np.maximum(part, patch.soft, out=part)
    other = optics.blurred(other, 0.3 * diameter) * (1 - lumen)
    # Behind the sharp nuclei, not on them.
    other *= np.clip(1 - 2 * nuclear, 0, 1)
    nuclear += np.float32(rng.uniform(0.08, 0.25)) * other


def _red_cells(
    rng: np.random.Generator, counter: FloatArray, scene: Scene, diameter: float
) -> None:
    """Add erythrocytes, which are stained evenly and have no nucleus, in place."""
    middle = rng.uniform(0, 1, 2) * scene.shape
    count = int(rng.integers(4, 40))
    radius = 0.45 * diameter * rng.uniform(0.8, 1.2)
    spread = radius * np.sqrt(count) * 1.2
    for at in rng.normal(middle, spread, (count, 2)):
        patch = Outline(
            at[0], at[1], radius, radius * rng.uniform(0.7, 1.0), rng.uniform(0, 3)
        ).patch(scene.shape)
        if patch is not None:
            free = scene.labels[patch.rows, patch.cols] == 0
            part = counter[patch.rows, patch.cols]
            np.copyto(part, part * (1 - patch.soft) + 0.85 * patch.soft, where=free)
