"""Everything mode: masks of all objects of an image without a click."""

from napari_tinysam.everything.candidates import Candidate, best_apart, suppressed
from napari_tinysam.everything.lattice import (
    Lattice,
    centred_lattice,
    official_lattice,
)
from napari_tinysam.everything.search import (
    Search,
    SearchProgress,
    SearchReport,
    SearchSettings,
)

__all__ = [
    "Candidate",
    "Lattice",
    "Search",
    "SearchProgress",
    "SearchReport",
    "SearchSettings",
    "best_apart",
    "centred_lattice",
    "official_lattice",
    "suppressed",
]
