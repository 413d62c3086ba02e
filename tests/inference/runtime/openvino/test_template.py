"""Graphs made of a template and a file of weights are those that torch would have made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_tinysam import checkpoints, load_model
from napari_tinysam.errors import DataError
from napari_tinysam.inference.runtime import choice
from napari_tinysam.inference.runtime.choice import needs_preparing
from napari_tinysam.inference.runtime.openvino import store, template
from napari_tinysam.inference.runtime.openvino.template import fitting_template
from napari_tinysam.model import SegmentAnything
from papers.graph_template import main, random_model, write_template
from papers.narrowing import WIDTH

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    """As the bundled one, of other weights than those that the template was made with."""
    return random_model(seed=7)


@pytest.fixture(scope="module")
def weights(model: SegmentAnything, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "ours.safetensors"
    checkpoints.save(model, path, half=True)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(folder))
    return folder


def answers(folder: Path) -> list[np.ndarray]:
    """Everything that the graphs of a folder give for an image and two prompts."""
    from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime

    runtime = OpenVinoRuntime(folder)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (300, 400, 3), np.uint8)
    features = runtime.encode(rgb)
    maps, half = features.maps, runtime.maps_of_half(rgb[::2, ::2])
    assert maps is not None
    assert half is not None
    decoded = runtime.decode(
        features,
        points=np.array([[[40.0, 90.0]], [[300.0, 200.0]]], np.float32),
        labels=np.ones((2, 1), np.int32),
        boxes=None,
        masks=rng.normal(0, 5, (2, 256, 256)).astype(np.float32),
    )
    return [*features.shared, *features.details, maps, half, *decoded]


def test_graphs_answer_as_those_that_torch_makes(
    model: SegmentAnything, weights: Path
) -> None:
    def never() -> SegmentAnything:
        raise AssertionError("a template fits")

    filled = answers(store.ensure("filled", never, weights=weights))
    converted = answers(store.ensure("converted", lambda: model))
    assert len(filled) == len(converted) > 10
    for one, two in zip(filled, converted, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_first_start_of_the_bundled_model_needs_no_torch(cache: Path) -> None:
    program = (
        "import sys, numpy as np, napari_tinysam as n;"
        "model = n.load_model();"
        "model.encode(np.zeros((90, 90), np.uint8));"
        "print(model.runtime_name, 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("OpenVINO")
    assert found.stdout.split()[-1] == "False"
    assert any(cache.iterdir())


def _changed(weights: Path, to: Path, change: str) -> Path:
    """Write a model that differs from the template's in one respect."""
    path = to / "changed.safetensors"
    if change == "cut":
        path.write_bytes(weights.read_bytes()[:100_000])
    elif change == "gone":
        pass
    elif change == "pth":
        path = path.with_suffix(".pth")
        checkpoints.save(random_model(), path, half=True)
    elif change == "wide":
        checkpoints.save(
            SegmentAnything("efficientnet_lite0", object_head=True, mlp_dim=2 * WIDTH),
            path,
            half=True,
        )
    else:
        model = random_model()
        model.dense_prompts = change != "prompts are not drawn"
        with torch.no_grad():
            if change == "no refiner":
                for each in model.mask_decoder.refiner.parameters():
                    each.zero_()
        checkpoints.save(model, path, half=change != "32 bits")
        if change == "not a number":
            content = bytearray(path.read_bytes())
            content[-2:] = np.float16(np.nan).tobytes()
            path.write_bytes(content)
    return path


def test_only_other_models_are_worth_a_word_at_the_first_start(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "may_have_gpu", lambda: False)
    other = _changed(weights, tmp_path, "wide")
    said: list[str] = []
    assert not needs_preparing(weights)
    assert needs_preparing(other)
    assert load_model(other).runtime_name.startswith("torch")
    assert load_model(weights, convert=said.append).runtime_name.startswith("OpenVINO")
    assert not said


@pytest.mark.parametrize(
    "change",
    [
        "cut",
        "gone",
        "pth",
        "wide",
        "prompts are not drawn",
        "no refiner",
        "32 bits",
        "not a number",
    ],
)
def test_models_unlike_the_template_are_left_to_torch(
    change: str, weights: Path, tmp_path: Path
) -> None:
    assert fitting_template(weights, version=store.FORMAT) is not None
    changed = _changed(weights, tmp_path, change)
    assert fitting_template(changed, version=store.FORMAT) is None


def test_a_template_of_other_graphs_is_not_used(weights: Path) -> None:
    assert fitting_template(weights, version=store.FORMAT + 1) is None


@pytest.mark.parametrize("prepared", [False, True])
def test_graphs_that_openvino_cannot_read_are_made_by_torch(
    prepared: bool,
    weights: Path,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where another version of OpenVINO is installed."""
    templates = tmp_path / "templates"
    shutil.copytree(template.TEMPLATES, templates)
    (path,) = templates.glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["encoder.xml"] = b"<net name='none' version='99'></net>"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    monkeypatch.setattr(template, "TEMPLATES", templates)
    if prepared:
        choice.prepare(checkpoints.locate(weights))
    found = load_model(weights, runtime="openvino")
    assert found.runtime_name.startswith("OpenVINO")
    found.encode(np.zeros((64, 64), np.uint8))
    (folder,) = (each.parent for each in cache.glob("*/whole.json"))
    assert b'version="99"' not in (folder / "encoder.xml").read_bytes()


def test_the_command_makes_the_template_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["graph_template", "-o", str(tmp_path)])
    main()
    manifests = []
    for folder in (tmp_path, template.TEMPLATES):
        with zipfile.ZipFile(folder / "efficientnet_lite0.zip") as archive:
            manifests.append(json.loads(archive.read(template.MANIFEST)))
    made, shipped = manifests
    for name in ("versions", "about", "tensors"):
        assert made[name] == shipped[name]


def test_weights_that_are_alike_are_refused(tmp_path: Path) -> None:
    model = random_model()
    first, second, *_ = model.mask_decoder.transformer.layers
    with torch.no_grad():
        second.norm1.weight.copy_(first.norm1.weight)
    with pytest.raises(DataError, match="are alike"):
        write_template(model, tmp_path / "t.zip")
    assert not (tmp_path / "t.zip").exists()
