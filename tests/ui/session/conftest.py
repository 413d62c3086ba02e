"""What most tests of a session begin with."""

from __future__ import annotations

import pytest

from desk import Desk, noise, open_desk


@pytest.fixture
def desk() -> Desk:
    """An image without labels, and the tool switched on."""
    return open_desk(noise(200, 300))
