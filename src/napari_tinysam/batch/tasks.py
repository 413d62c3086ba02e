"""The pieces that a batch is cut into, and what workers answer.

A file is begun by one task. A file of one small plane is finished by it; other files are planned.
Then each plane is a task, and of a large plane each few tiles are, once a few of them have told
which side they should have. When all tiles of a plane are made, one task joins them; when all
planes are, one task writes the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_tinysam.batch.settings import FileOutcome

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job
    from napari_tinysam.batch.provenance import Provenance


class Identity(NamedTuple):
    """What must be the same for all workers of a run.

    Attributes
    ----------
    version : str
        Of this package.
    model, model_id : str
        Name of the model; its weights and runtime.
    has_object_head : bool
    """

    version: str
    model: str
    model_id: str
    has_object_head: bool


@dataclass(frozen=True)
class Plan:
    """How a file of several planes, or of a large one, will be done.

    Attributes
    ----------
    job : Job
        Under the stem of its results.
    wanted : Provenance
    planes : int
        How many there are.
    missing : tuple of int
        Those that were not segmented before.
    notes : tuple of str
        As of `FileOutcome`.
    """

    job: Job
    wanted: Provenance
    planes: int
    missing: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    number : int
        Of the file in the run.
    job : Job
    plan : Plan, optional
        Without it the file is begun.
    plane : int, optional
        Which plane to segment. With a plan but no plane the results are written.
    tiles : tuple of int, optional
        Numbers of the tiles to search in this plane. Without any left the plane is joined. None
        segments the plane, or says which tiles it has.
    side : int, optional
        Of these tiles, while the side is being chosen.
    """

    number: int
    job: Job
    plan: Plan | None = None
    plane: int | None = None
    tiles: tuple[int, ...] | None = None
    side: int | None = None

    @property
    def name(self) -> tuple[Any, ...]:
        """Tells tasks of a run apart."""
        return self.number, self.plan is None, self.plane, self.tiles, self.side


@dataclass(frozen=True)
class PlaneMade:
    """A plane is segmented and kept."""


@dataclass(frozen=True)
class Choosing:
    """A plane is large: some tiles are to be searched before the side of all is chosen.

    Attributes
    ----------
    missing : tuple of int
        Their numbers.
    side : int
        Their side.
    """

    missing: tuple[int, ...]
    side: int


@dataclass(frozen=True)
class InTiles:
    """A plane is large: it is searched in tiles.

    Attributes
    ----------
    missing : tuple of tuple of int
        Numbers of the tiles that were not searched before, those of each task together.
    count : int
        How many tiles the plane has.
    """

    missing: tuple[tuple[int, ...], ...]
    count: int


@dataclass(frozen=True)
class TilesMade:
    """Some tiles of a plane are searched, and what was found is kept."""


@dataclass(frozen=True)
class Failed:
    """A task failed.

    Attributes
    ----------
    reason : str
        One sentence.
    """

    reason: str


Answer = Plan | PlaneMade | Choosing | InTiles | TilesMade | FileOutcome | Failed
