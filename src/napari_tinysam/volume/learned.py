"""Objects of frames linked by trackastra, a transformer trained on many movies.

Gallusser and Weigert, ECCV 2024 (BSD-3). It is used where somebody has installed it with its
weights; nothing is downloaded, and the plugin does not need it.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError, explained

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.volume.linking import Chain
    from napari_tinysam.volume.measuring import MeasuredFrames

#: The model for cells of any kind, in planes.
_MODEL = "general_2d"


def weights_folder() -> Path | None:
    """Return where trackastra keeps its weights; None if it or they are missing."""
    if find_spec("trackastra") is None:
        return None
    from platformdirs import user_data_dir

    folder = Path(user_data_dir("trackastra")) / "models" / _MODEL
    return folder if (folder / "model.pt").is_file() else None


def check_trackastra() -> Path:
    """Return where its weights are; raises `TinySAMError` if it or they are missing."""
    folder = weights_folder()
    if folder is None:
        raise TinySAMError(
            "trackastra is not installed with its weights: pip install trackastra, then "
            f"trackastra.model.Trackastra.from_pretrained('{_MODEL}') in Python."
        )
    return folder


def chained_by_trackastra(
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    measured: MeasuredFrames,
) -> list[Chain]:
    """Chain the objects of frames, each in one chain.

    Parameters
    ----------
    images : ndarray, (T, H, W)
    labels : ndarray of int, (T, H, W)
        From which `measured` was made.
    measured : MeasuredFrames

    Returns
    -------
    list of Chain
        By their first frame, then by their label there. An object that goes on as two ends: `track`
        judges whether it has divided. No gaps are closed.

    Raises
    ------
    TinySAMError
        If trackastra or its weights are missing, or it fails.
    """
    folder = check_trackastra()
    if labels.ndim != 3:
        raise TinySAMError(f"trackastra's model {_MODEL} tracks planes, not volumes.")
    if not labels.any():
        return []
    from tqdm import tqdm
    from trackastra.model import Trackastra

    with explained("trackastra cannot track this movie"):
        model = Trackastra.from_folder(folder, device="automatic")
        quiet = partial(tqdm, disable=True)
        graph, _ = model.track(images, labels, mode="greedy", progbar_class=quiet)
    place = {
        node: (int(known["time"]), int(known["label"]))
        for node, known in graph.nodes(data=True)
    }
    following = {}
    for one, other in graph.edges:
        if graph.out_degree(one) == 1:
            following[place[one]] = place[other]
    return _chains(measured, following)


def _chains(
    measured: MeasuredFrames, following: dict[tuple[int, int], tuple[int, int]]
) -> list[Chain]:
    """Chain objects by what follows each, as (frame, label)."""
    ids = measured.overlaps.ids
    later = set(following.values())
    chains = []
    for frame, labels in enumerate(ids):
        for label in labels.tolist():
            if (frame, label) in later:
                continue
            chain: Chain = []
            at: tuple[int, int] | None = (frame, label)
            while at is not None:
                chain.append((at[0], int(np.searchsorted(ids[at[0]], at[1]))))
                at = following.get(at)
            chains.append(chain)
    return chains
