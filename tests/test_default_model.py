"""The model that is in the package: its file is the one of its card, and it segments."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from napari_tinysam import Prompts, checkpoints, load_model
from tinysam_training.synthetic import entries

WEIGHTS = files("napari_tinysam") / "weights"


def test_the_file_is_the_one_of_the_card() -> None:
    card = (WEIGHTS / "MODEL_CARD.md").read_text("utf-8")
    stated = re.search(r"\| sha256 \| `([0-9a-f]{64})` \|", card)
    assert stated is not None
    content = (WEIGHTS / "default.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == stated[1]
    assert f"{len(content):,} bytes" in card


def test_the_quantized_file_is_the_one_of_the_card() -> None:
    card = (WEIGHTS / "MODEL_CARD.md").read_text("utf-8")
    stated = re.search(r"\| sha256 of the quantized file \| `([0-9a-f]{64})` \|", card)
    assert stated is not None
    content = (WEIGHTS / "default-int8.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == stated[1]
    assert f"{len(content):,} bytes" in card
    # It is of the default model that is bundled, and the plugin knows that it is quantized.
    located = checkpoints.locate("default-int8")
    assert located.quantized
    assert located.notes["quantized_from"].startswith("default ")
    assert located.notes["quantized_from"].split()[1] == (
        checkpoints.locate("default").fingerprint
    )


@pytest.fixture(scope="module")
def field() -> tuple[np.ndarray, np.ndarray]:
    """A field of nuclei as the generator draws them, of a seed that no training uses."""
    image = entries(1, seed=2**31 - 3, kinds=("nuclei",), size=(256, 256))[0].read()
    return image.rgb, image.labels[0]


@pytest.mark.parametrize("name", ["default", "default-int8"])
def test_boxes_segment_a_synthetic_field(
    field: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    rgb, labels = field
    model = load_model(name)
    boxes, wanted = [], []
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        y, x = np.nonzero(mask)
        if mask.sum() >= 50:
            boxes.append([x.min(), y.min(), x.max(), y.max()])
            wanted.append(mask)
    assert len(boxes) >= 5
    masks = model.predict(model.encode(rgb), Prompts(boxes=boxes))
    found = masks.masks[np.arange(len(boxes)), masks.best]
    ious = [(a & b).sum() / (a | b).sum() for a, b in zip(found, wanted, strict=True)]
    assert np.mean(ious) >= 0.8
