"""Everything mode: all objects of an image, without a click."""

from napari_tinysam.everything.any_size import (
    Tiles,
    grid_of,
    is_tiled,
    segment_everything,
    segmentation_of,
)
from napari_tinysam.everything.candidates import Candidate, best_apart, suppressed
from napari_tinysam.everything.choosing import (
    Labelling,
    LabelSettings,
    label_proposals,
)
from napari_tinysam.everything.guided import GuidedSearch, GuidedSettings
from napari_tinysam.everything.lattice import (
    Lattice,
    centred_lattice,
    official_lattice,
)
from napari_tinysam.everything.proposals import Proposal, Proposals
from napari_tinysam.everything.rectangle import PartSegmentation
from napari_tinysam.everything.search import (
    Search,
    SearchReport,
    SearchSettings,
)
from napari_tinysam.everything.segmentation import (
    Mode,
    Progress,
    Segmentation,
)
from napari_tinysam.everything.thresholds import Thresholds
from napari_tinysam.everything.tiled import TiledSegmentation, tiles

__all__ = [
    "Candidate",
    "GuidedSearch",
    "GuidedSettings",
    "LabelSettings",
    "Labelling",
    "Lattice",
    "Mode",
    "PartSegmentation",
    "Progress",
    "Proposal",
    "Proposals",
    "Search",
    "SearchReport",
    "SearchSettings",
    "Segmentation",
    "Thresholds",
    "TiledSegmentation",
    "Tiles",
    "best_apart",
    "centred_lattice",
    "grid_of",
    "is_tiled",
    "label_proposals",
    "official_lattice",
    "segment_everything",
    "segmentation_of",
    "suppressed",
    "tiles",
]
