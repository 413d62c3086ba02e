"""The bundled model in files: run as docs/export.md says, it answers as the plugin does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from efficient_models import efficient_model
from export.small_exports import SIDE, quantized_model
from napari_tinysam import Predictor, Prompts, load_model
from napari_tinysam import export as exporting
from napari_tinysam.checkpoints import load
from napari_tinysam.cli import main as cli
from napari_tinysam.export import export
from napari_tinysam.image import to_rgb
from tinysam_training.synthetic import entries

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
REGIONS = "regions = np.zeros((logits, logits), np.int32)\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def block_with(words: str) -> str:
    (found,) = (block for block in blocks("python") if words in block)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In it the files, and the image of the example: a field of nuclei, not square."""
    found = tmp_path_factory.mktemp("default")
    export(load("default").model, found / "exported")
    field = entries(1, seed=2**31 - 3, kinds=("nuclei",), size=(200, 280))[0].read()
    Image.fromarray(field.rgb).save(found / "cells.png")
    np.save(found / "labels.npy", field.labels[0])
    return found


@pytest.fixture(scope="module")
def plugin() -> Predictor:
    return load_model(device="cpu", runtime="torch")


def two_objects(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """(x, y) on the largest object, and x0, y0, x1, y1 around the one after it."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    first, second = np.argsort(areas)[::-1][:2]
    y, x = np.nonzero(labels == first)
    middle = np.hypot(y - y.mean(), x - x.mean()).argmin()
    ys, xs = np.nonzero(labels == second)
    return [int(x[middle]), int(y[middle])], [
        int(each) for each in (xs.min(), ys.min(), xs.max(), ys.max())
    ]


def example(folder: Path, regions: str = REGIONS) -> str:
    """The page's example about objects that are in its image."""
    point, box = two_objects(np.load(folder / "labels.npy"))
    code = block_with('Image.open("cells.png")')
    for old, new in (
        (REGIONS, regions),
        ("[[120, 80], [0, 0]]", f"[{point}, [0, 0]]"),
        ("[[190, 40], [250, 95]]", f"[{box[:2]}, {box[2:]}]"),
    ):
        assert code.count(old) == 1
        code = code.replace(old, new)
    return code


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "export.md", "exec"), names)
    return names


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def test_the_example_masks_are_those_of_the_plugin(
    folder: Path, plugin: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own regions, in the whole frame: both are the plugin's to find."""
    monkeypatch.chdir(folder)
    rgb = np.asarray(Image.open("cells.png"))
    embedding = plugin.encode(rgb)
    names = run(example(folder, "regions = own\n"), own=embedding.regions)
    # Of the frame; where objects are large the plugin may have taken those of half the size.
    expected = plugin._runtime.object_maps(embedding.features)
    assert expected is not None
    maps = names["seen"]["object_maps"][0]
    np.testing.assert_allclose(maps, expected, atol=1e-3)
    point, box = two_objects(np.load("labels.npy"))
    for number, prompts in enumerate(
        (Prompts(points=[[point]], labels=[[1]]), Prompts(boxes=[box]))
    ):
        expected = plugin.without_windows().predict(embedding, prompts)
        masks, scores = (names["found"][each][number] for each in ("masks", "scores"))
        largest = np.abs(expected.logits).max()
        assert np.abs(masks - expected.logits[0]).max() < 1e-3 * largest
        np.testing.assert_allclose(scores, expected.scores[0], atol=1e-3)
        mask = expected.masks[0, expected.best[0]]
        assert mask.sum() > 50
        assert iou(names["objects"] == number + 1, mask) > 0.99
    saved = np.asarray(Image.open("objects.png"))
    np.testing.assert_array_equal(saved, names["objects"])


def test_the_example_finds_the_objects(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, and with the regions that the page makes."""
    monkeypatch.chdir(folder)
    labels = np.load("labels.npy")
    point, box = two_objects(labels)
    wanted = [labels == labels[point[1], point[0]]]
    inside = labels[box[1] : box[3] + 1, box[0] : box[2] + 1]
    wanted.append(labels == np.bincount(inside[inside > 0]).argmax())
    found = []
    for regions in ("", block_with("watershed")):
        objects = run(example(folder, REGIONS + regions))["objects"]
        assert objects.shape == labels.shape
        found.append([iou(objects == i, mask) for i, mask in enumerate(wanted, 1)])
    (round_point, box_alone), (point_on_region, box_with_regions) = found
    assert min(round_point, box_alone, box_with_regions) > 0.9
    assert point_on_region >= round_point - 0.01


def test_the_regions_of_the_page_are_nearly_the_plugins(
    folder: Path, plugin: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    embedding = plugin.encode(np.asarray(Image.open("cells.png")))
    assert embedding.maps is not None
    assert embedding.regions is not None
    names = run(
        block_with("watershed"),
        np=np,
        seen={"object_maps": embedding.maps[None]},
        height=round(1024 * 200 / 280),
        width=1024,
        logits=256,
    )
    found = names["regions"]
    assert found.dtype == np.int32
    assert iou(found > 0, embedding.regions > 0) > 0.9
    # Object by object, each with the one that it shares most with.
    alike = []
    for number in range(1, int(embedding.regions.max()) + 1):
        own = embedding.regions == number
        other = np.bincount(found[own]).argmax()
        alike.append(other > 0 and iou(found == other, own) > 0.8)
    assert np.mean(alike) > 0.8


def test_gray_images_get_the_contrast_of_the_plugin(
    tmp_path: Path, plugin: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pixels = rng.gamma(2, 300, (60, 90)).astype(np.uint16)
    Image.fromarray(pixels).save("cells.tif")
    names = run(block_with("np.percentile"), np=np, Image=Image)
    found = np.asarray(names["image"]).astype(int)
    assert np.abs(found - to_rgb(pixels)).max() <= 1


def test_openvino_runs_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")
    monkeypatch.chdir(tmp_path)
    export(quantized_model(), "exported", format="openvino", integers=True)
    names = run(
        block_with("import openvino"),
        frame=np.zeros((1, SIDE, SIDE, 3), np.uint8),
        size=np.array([SIDE, 50], np.int64),
    )
    assert names["seen"]["embedding"].shape == (1, 256, SIDE // 16, SIDE // 16)
    assert len(names["decoder"].inputs) == 6


def test_the_tables_of_the_page_are_those_of_the_files(tmp_path: Path) -> None:
    """Name by name, with S for the side of the frame, of an EfficientNet."""
    model = efficient_model(1024)
    for parameter in model.mask_decoder.refiner.parameters():
        parameter.detach().zero_()  # as of the bundled model
    export(model, tmp_path / "exported")
    exported = (tmp_path / "exported" / "README.md").read_text("utf-8")
    row = r"^\|.*?`(\w+)` \| (\(.*?\)) \| (\w+) \|"
    sides = {"S": "1024", "S/2": "512", "S/4": "256", "S/8": "128", "S/16": "64"}
    said = [
        (name, re.sub(r"S(/\d+)?", lambda found: sides[found[0]], shape), kind)
        for name, shape, kind in re.findall(row, PAGE, re.MULTILINE)
    ]
    assert said == re.findall(row, exported, re.MULTILINE)


def test_the_commands_of_the_page_are_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Path, bool]] = []

    def noted(
        model: Any, folder: Path, *, integers: bool, **_: Any
    ) -> list[Path]:  # nothing is written
        asked.append((folder, integers))
        return []

    monkeypatch.setattr(exporting, "export", noted)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    for line in lines:
        program, *words = line.split()
        if program == "napari-tinysam":
            found = CliRunner().invoke(cli.app, words)
            assert found.exit_code == 0, found.output
    assert asked == [(Path("exported"), False), (Path("exported-int8"), True)]
