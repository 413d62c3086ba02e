"""The teacher of a distillation, and the batches whose frames it embeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam.errors import DataError
from napari_tinysam.model import DetailedMaskDecoder
from tinysam_training.data.frame_batches import FrameBatches
from tinysam_training.distill.embedding_cache import EmbeddingCache
from tinysam_training.distill.teacher import Teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tinysam_training.data.sampling import Sources
    from tinysam_training.recipe import Recipe

#: Turns whose embeddings a teacher's cache holds where flips are wanted.
FLIPS = ("identity", "mirrored", "upside_down", "half_turn")


def load_teacher(recipe: Recipe, fabric: Fabric) -> Teacher:
    """Load a recipe's teacher onto the device of a run.

    Raises
    ------
    DataError
        If it cannot be loaded, or its decoder needs more than the embedding.
    """
    teacher = Teacher.load(recipe.teacher.model, fabric.device)
    if isinstance(teacher.model.mask_decoder, DetailedMaskDecoder):
        raise DataError(
            f"{teacher.name} cannot teach: its decoder reads finer features than the "
            "embedding, which is all that is stored. Name a TinyViT or SAM model."
        )
    return teacher


def embedded_batches(
    teacher: Teacher,
    recipe: Recipe,
    sources: Sources,
    out: Path,
    fabric: Fabric,
    say: Callable[[str], None],
    map_stride: int,
) -> FrameBatches:
    """Embed all frames, and return windows of them; the teacher then drops its encoder."""
    turns: Sequence[str] = FLIPS if recipe.teacher.flips else FLIPS[:1]
    cache = EmbeddingCache(out / recipe.teacher.cache)
    say(
        f"The teacher {teacher.name} embeds {len(sources.weights)} images in "
        f"{len(turns)} turns; stored embeddings are not computed again."
    )
    frames = cache.precompute(sources.images, teacher, turns)
    fabric.barrier()
    teacher.drop_encoder()
    return FrameBatches(
        sources, turns, frames, recipe, own=False, map_stride=map_stride
    )
