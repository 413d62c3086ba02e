"""The official model and this project's, with the same random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import official_models

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from napari_tinysam.model import SegmentAnything


@pytest.fixture(scope="session")
def official() -> Sam:
    return official_models.official_tiny()


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> SegmentAnything:
    """Shared: tests that change it work on a copy."""
    return official_models.load_official(tmp_path_factory.mktemp("official"))
