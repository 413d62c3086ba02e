"""What is known of an object that is followed, plane by plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_tinysam.volume.asking import Kind

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.masks import BoxedMask


class Origin(Enum):
    """Where the mask of a plane comes from."""

    ANCHOR = "anchor"
    FOLLOWED = "followed"
    COPIED = "copied"


@dataclass(frozen=True)
class FollowSettings:
    """When an object goes on, and when it ends.

    Parameters
    ----------
    moves : bool
        Whether the planes are frames of a movie: objects move on as they moved before.
    least_kind : float
        IoU with the known mask below which the model's answers are not used: the expected shape is
        copied instead.
    least_agreement : float
        IoU with the expected shape below which a plane counts as weak.
    least_trust : float
        Trust below which a plane counts as weak.
    growth, shrinking : float
        An answer with more than `growth` times the mean area of the last planes, or less than
        `shrinking` times it, is another object. Objects end in caps, which shrink fast.
    least_area : float
        Share of the largest area so far below which the object has ended.
    seen : float
        Mean foreground of the object maps inside an answer below which nothing is there.
    kind : Kind, optional
        How to ask for all objects; by default each in the way that suits it.
    patience : int
        Weak planes in a row after which the object has ended before them.
    """

    moves: bool = False
    least_kind: float = 0.6
    least_agreement: float = 0.4
    least_trust: float = 0.5
    growth: float = 2.0
    shrinking: float = 0.25
    least_area: float = 0.12
    seen: float = 0.35
    patience: int = 2
    kind: Kind | None = None


@dataclass(frozen=True, eq=False)
class PlaneMask:
    """An object in one plane.

    Attributes
    ----------
    plane : int
    mask : BoxedMask
    origin : Origin
    trust : float
        0–1; 1 for anchors.
    """

    plane: int
    mask: BoxedMask
    origin: Origin
    trust: float


class Planes(Protocol):
    """Reads the planes of a stack or movie."""

    def __call__(self, plane: int) -> Embedding:
        """Return the embedding of a plane, by the predictor that follows."""
        ...


#: The pixels of a plane that others own, (H, W) bool; None if there are none.
Taken = Callable[[int], "npt.NDArray[np.bool_] | None"]


@dataclass(eq=False)
class FollowedObject:
    """What is known of one object.

    Attributes
    ----------
    anchors : dict of int to BoxedMask
        Planes in which the user says what it is.
    found : dict of int to PlaneMask
        All planes in which it was found, anchors included.
    kind : Kind
    borders : dict of int to float
        For each anchor, what is added to the logits of its mask, so that it ends where the user's
        ends.
    worth : float
        IoU with which both give the anchors back.
    """

    anchors: dict[int, BoxedMask]
    found: dict[int, PlaneMask] = field(default_factory=dict)
    kind: Kind = Kind.BOX
    borders: dict[int, float] = field(default_factory=dict)
    worth: float = 0.0

    def __post_init__(self) -> None:
        if not self.anchors:
            raise ValueError(
                "An object that is followed is known in one plane at least."
            )
        if any(not mask.area for mask in self.anchors.values()):
            raise ValueError("The mask of an anchor is not empty.")
        for plane, mask in self.anchors.items():
            self.found[plane] = PlaneMask(plane, mask, Origin.ANCHOR, 1.0)

    def border_at(self, plane: int) -> float:
        """Return what is added to the logits in a plane: between anchors, it changes gradually."""
        if not self.borders:
            return 0.0
        planes = sorted(self.borders)
        return float(np.interp(plane, planes, [self.borders[at] for at in planes]))
