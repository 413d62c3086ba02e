"""Settings of augmentation: what can be drawn from, and what has a name."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import yaml

from tinysam_training.recipe import Augmentation

NONE = Augmentation.none()


def test_settings_go_through_yaml() -> None:
    settings_of = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(Augmentation.light()).items()
    }
    text = yaml.safe_dump(settings_of)
    assert Augmentation(**yaml.safe_load(text)) == Augmentation.light()


@pytest.mark.parametrize(
    "setting",
    [
        {"zoom": (2.0, 1.0)},
        {"zoom": (0.0, 1.0)},
        {"gamma": 1.0},
        {"gain": (1.0, 2.0, 3.0)},
        {"offset": (-2.0, 0.0)},
        {"blur_probability": 1.5},
        {"extent": (-8, 400)},
    ],
)
def test_settings_that_cannot_be_drawn_from_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Augmentation(**setting)


def test_which_levels_change_intensities() -> None:
    assert not NONE.changes_intensities
    assert not replace(
        NONE,
        turn_probability=1.0,
        free_turn_probability=1.0,
        mirror_probability=1.0,
        fit_probability=1.0,
    ).changes_intensities
    assert Augmentation.light().changes_intensities
    assert replace(NONE, inversion_probability=0.1).changes_intensities
