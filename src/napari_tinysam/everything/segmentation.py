"""Segment everything: one interface for the button, the command and the Python function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

from napari_tinysam.everything.choosing import Labelling, label_proposals
from napari_tinysam.everything.guided import GuidedSearch
from napari_tinysam.everything.instances import instances_of
from napari_tinysam.everything.proposals import Proposal, Proposals
from napari_tinysam.everything.search import Search, SearchReport
from napari_tinysam.everything.thresholds import Thresholds
from napari_tinysam.objects.finding import segment_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.everything.candidates import Candidate
    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: How objects are found. "auto" is "guided" if the model has an object head, else "hierarchical".
#: "dense" decodes the whole grid, "head" decodes nothing.
Mode = Literal["auto", "guided", "hierarchical", "dense", "head"]


def resolved_mode(mode: Mode, predictor: Predictor) -> Mode:
    """Return the mode that "auto" stands for, and others unchanged.

    Raises
    ------
    ValueError
        If the mode is unknown, or the model has no object head and the mode needs one.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"There is no mode {mode!r}.")
    if mode == "auto":
        return "guided" if predictor.has_object_head else "hierarchical"
    if mode in ("guided", "head") and not predictor.has_object_head:
        raise ValueError(
            f"The model {predictor.name!r} has no object head; use the mode hierarchical."
        )
    return mode


@dataclass(frozen=True, eq=False)
class Progress:
    """Progress of a segmentation after a batch.

    Attributes
    ----------
    new : list of Proposal
        Found by this batch, not yet compared with earlier ones.
    done, total : int
        Prompts that were decoded or skipped, and all prompts known so far; or tiles.
    unit : str
        What is counted: "prompts" or "tiles"; "places" while the side of tiles is chosen, and
        nothing is counted.
    afresh : bool
        Whether what was found before is no longer of use: other tiles were chosen.
    """

    new: list[Proposal]
    done: int
    total: int
    unit: str = "prompts"
    afresh: bool = False


class InSteps(ABC):
    """A search in steps: iterating over it goes on, and what was found can be had at any time."""

    @abstractmethod
    def __iter__(self) -> Iterator[Progress]:
        """Search step by step; the caller may stop at any time."""

    @property
    @abstractmethod
    def settings(self) -> LabelSettings:
        """The model's own settings for labels."""

    @property
    @abstractmethod
    def proposals(self) -> Proposals:
        """The proposals found so far; a new object at each access."""

    def run(self) -> Self:
        """Search everything."""
        for _ in self:
            pass
        return self

    def labels(self, settings: LabelSettings | None = None) -> Labelling:
        """Label the proposals found so far, with the model's or other settings."""
        return label_proposals(self.proposals, settings or self.settings)


class Segmentation(InSteps):
    """Everything mode in one image: iterating decodes; results are available at any time.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the image, by this predictor.
    mode : str
        See `Mode`.
    thresholds : Thresholds, optional
        Those of the model by default.
    where : ndarray of bool, (H, W), optional
        Where to look for objects: a part of the image, or the pixels without a label.

    Attributes
    ----------
    mode : str
        The resolved mode, never "auto".
    report : SearchReport

    Raises
    ------
    ValueError
        If the mode is unknown, or the model has no object head and the mode needs one.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: Embedding,
        mode: Mode = "auto",
        *,
        thresholds: Thresholds | None = None,
        where: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.mode = resolved_mode(mode, predictor)
        self.predictor = predictor
        self.embedding = embedding
        self.thresholds = thresholds or Thresholds.from_notes(predictor.notes)
        self.where = where
        self.report = SearchReport()
        self._search: Search | GuidedSearch | None = None
        self._head: list[Proposal] = []

    def __iter__(self) -> Iterator[Progress]:
        """Decode batch by batch; the caller may stop at any time."""
        given = self.thresholds
        if self.mode == "head":
            yield from self._by_head()
        elif self.mode == "guided":
            guided = GuidedSearch(
                self.predictor, self.embedding, given.guided, given.search, self.where
            )
            self._search, self.report = guided, guided.report
            for new in guided:
                yield self._progress(new)
        else:
            settings = given.search
            if self.mode == "dense":
                from dataclasses import replace

                settings = replace(settings, hierarchical=False)
            search = Search(self.predictor, self.embedding, settings, self.where)
            self._search, self.report = search, search.report
            for found in search:
                yield self._progress([self._proposal(each) for each in found])

    @property
    def settings(self) -> LabelSettings:
        """The model's settings for labels in this mode."""
        return self.thresholds.labels_in(self.mode)

    @property
    def proposals(self) -> Proposals:
        """The proposals found so far; a new object at each access."""
        shape = self.embedding.original_size
        if isinstance(self._search, Search):
            # By box first: comparing thousands of masks pixel by pixel is slow.
            kept = self._search.result
            return Proposals(map(self._proposal, kept), shape)
        if isinstance(self._search, GuidedSearch):
            return Proposals(self._search.proposals, shape)
        return Proposals(self._head, shape)

    def _proposal(self, candidate: Candidate) -> Proposal:
        # The published code keeps stray pixels.
        published = self.thresholds.search.lattice == "official"
        return Proposal.of_candidate(candidate, drop_specks=not published)

    def _progress(self, new: list[Proposal]) -> Progress:
        return Progress(new, self.report.done, self.report.points)

    def _by_head(self) -> Iterator[Progress]:
        maps = self.predictor.object_maps(self.embedding)
        assert maps is not None, "checked before: there is an object head"
        objects = self.thresholds.guided.objects
        labels = segment_objects(maps, self.embedding.upscaler, objects)
        self._head = [
            Proposal(each.mask, 1.0, each.point, "head", 1.0, each.mask)
            for each in instances_of(labels)
            if self.where is None or each.mask.lies_in(self.where)
        ]
        self.report.found = len(self._head)
        yield Progress(self._head, 1, 1)
