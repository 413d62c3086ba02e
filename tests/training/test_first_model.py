"""The simple training: joint crops, honest prompts, falling losses, a kept budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors import safe_open

from napari_tinysam.model import SegmentAnything
from tinysam_training.data import (
    LabelledImage,
    WindowSampler,
    labelled_image,
    sample_window,
)
from tinysam_training.evaluate_clicks import evaluate, load_weights
from tinysam_training.first_model import (
    Settings,
    Training,
    aux_targets,
    decode,
    export,
    make_batch,
    mask_loss,
    point_beside,
    point_inside,
    rate_at,
    sample_prompts,
    train,
)

if TYPE_CHECKING:
    from pathlib import Path

MEAN = np.array([123.675, 116.28, 103.53], np.float32)[:, None, None]
STD = np.array([58.395, 57.12, 57.375], np.float32)[:, None, None]
SMALL = Settings(minutes=60, windows=((64, 2, 1.0),), objects=2, warmup=0.0)


@pytest.fixture(scope="module")
def disks() -> LabelledImage:
    """Bright disks of different sizes; the brightness of a disk tells its number."""
    labels = np.zeros((120, 160), np.uint16)
    yy, xx = np.mgrid[:120, :160]
    places = [(30, 30, 14), (30, 80, 18), (85, 40, 20), (80, 120, 24)]
    for number, (y, x, radius) in enumerate(places, start=1):
        labels[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = number
    gray = (50 * labels).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, axis=2)  # RGB is not stretched
    return labelled_image("disks", "one", rgb, labels)


def test_instances_are_numbered_without_gaps() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[2:6, 3:9] = 7
    labels[10:15, 10:12] = 300
    image = labelled_image("set", "name", np.zeros((20, 20), np.uint8), labels)
    assert set(np.unique(image.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(image.boxes, [[3, 2, 9, 6], [10, 10, 12, 15]])
    assert image.rgb.shape == (20, 20, 3)
    assert image.depth[4, 5] == 255
    assert (image.depth[labels == 0] == 0).all()
    assert (image.depth[labels > 0] > 0).all()


def test_image_and_labels_are_cut_together(disks: LabelledImage) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        window = sample_window(disks, 96, rng, augment=False)
        assert window.labels.any()
        shown = window.rgb[0, : window.height, : window.width]
        labels = window.labels[: window.height, : window.width]
        # Resampling mixes values at the boundaries only.
        assert np.mean(np.abs(shown - 50 * labels) < 26) > 0.9
        assert (window.depth[window.labels == 0] == 0).all()


def test_intensities_stay_in_range(disks: LabelledImage) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        window = sample_window(disks, 64, rng)
        assert np.isfinite(window.rgb).all()
        assert window.rgb.min() >= 0
        assert window.rgb.max() <= 255


def test_points_lie_where_they_say() -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:13] = True
    mask[27:30, 10:45] = True
    for _ in range(50):
        x, y = point_inside(mask, rng).astype(int)
        assert mask[y, x]
        beside = point_beside(mask, 40, 50, rng)
        assert beside is not None
        x, y = beside.astype(int)
        assert not mask[y, x]


def test_prompts_belong_to_their_objects(disks: LabelledImage) -> None:
    rng = np.random.default_rng(3)
    forms = set()
    for _ in range(15):
        windows = [sample_window(disks, 96, rng) for _ in range(2)]
        prompts = sample_prompts(windows, 3, rng)
        for n, index in enumerate(prompts.window):
            window = windows[index]
            covered = prompts.targets[n] > 0
            box = prompts.boxes[n]
            forms.add((len(prompts.points[n]), bool(np.isnan(box[0]))))
            for (x, y), label in zip(prompts.points[n], prompts.labels[n], strict=True):
                assert x < window.width
                assert y < window.height
                if label == 1:
                    assert window.labels[int(y), int(x)] > 0
                    assert covered[int(y) // 4, int(x) // 4]
                else:
                    assert prompts.targets[n][int(y) // 4, int(x) // 4] < 1
            if not np.isnan(box[0]):
                assert (box >= 0).all()
                assert box[2] <= window.width
                assert box[3] <= window.height
    assert {(1, True), (0, False), (1, False)} <= forms


def test_padding_is_zero_and_does_not_count(disks: LabelledImage) -> None:
    rng = np.random.default_rng(4)
    padded = 0
    for _ in range(40):
        window = sample_window(disks, 64, rng)
        h, w = window.height, window.width
        padded += h < 64 or w < 64
        assert not window.labels[h:].any()
        assert not window.labels[:, w:].any()
        _, weight = aux_targets(window)
        assert not weight[0, -(-h // 4) :].any()
        assert not weight[0, :, -(-w // 4) :].any()
    assert padded
    sampler = WindowSampler([disks])
    batch = make_batch(sampler, 64, 40, 2, rng, MEAN, STD)
    cells = np.kron(batch.valid, np.ones((1, 1, 4, 4))) > 0
    assert (batch.image[~np.broadcast_to(cells, batch.image.shape)] == 0).all()

    logits = torch.randn(1, 3, 8, 8)
    target = torch.zeros(1, 8, 8)
    target[:, :3, :3] = 1
    valid = torch.ones(1, 8, 8)
    valid[:, 5:] = 0
    changed = logits.clone()
    changed[:, :, 5:] += 30
    scores = torch.rand(1, 3)
    for a, b in zip(
        mask_loss(logits, scores, target, valid),
        mask_loss(changed, scores, target, valid),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_decoding_a_whole_frame_is_the_models_own() -> None:
    torch.manual_seed(0)
    model = SegmentAnything().eval()
    embedding = torch.randn(1, 256, 64, 64)
    points = torch.tensor([[[300.0, 500.0]]])
    labels = torch.ones(1, 1)
    boxes = torch.tensor([[200.0, 300.0, 420.0, 640.0]])
    zeros = torch.zeros(1, 2, dtype=torch.long)
    window = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        ours = decode(model, embedding, zeros, window, points, labels, boxes)
        theirs = model.decode(embedding, points=points, labels=labels, boxes=boxes)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_window_is_encoded_as_its_part_of_the_frame() -> None:
    """A cell of a window has the positional encoding of its place in the frame."""
    torch.manual_seed(0)
    model = SegmentAnything().eval()
    seen = []
    model.mask_decoder.transformer.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[1])
    )
    offset = torch.tensor([[5, 7]])
    with torch.no_grad():
        decode(
            model,
            torch.randn(1, 256, 4, 4),
            offset,
            torch.zeros(1, dtype=torch.long),
            torch.tensor([[[7.5, 7.5]]]),  # centre of the first cell
            torch.ones(1, 1),
            None,
        )
        expected = model.prompt_encoder.pe_layer.forward_with_coords(
            torch.tensor([[[7 * 16 + 8.0, 5 * 16 + 8.0]]]), (1024, 1024)
        )
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected[0, 0], atol=1e-4, rtol=0)


def test_losses_fall_on_one_batch(disks: LabelledImage) -> None:
    training = Training(SMALL)
    batch = make_batch(
        WindowSampler([disks]), 64, 2, 2, np.random.default_rng(5), MEAN, STD
    )
    losses = [training.step(batch) for _ in range(9)]
    assert all(np.isfinite(figures["loss"]) for figures in losses)
    for name in ("loss", "aux", "mask"):
        first = np.mean([figures[name] for figures in losses[:2]])
        last = np.mean([figures[name] for figures in losses[-2:]])
        assert last < 0.9 * first, name
    # The corrective round needs an answer first: late in the training.
    training.seconds = 60 * SMALL.minutes * 0.9
    assert np.isfinite(training.step(batch)["loss"])


def test_the_rate_rises_and_falls_to_almost_nothing() -> None:
    settings = Settings()
    rates = [rate_at(progress, settings) for progress in np.linspace(0, 1, 201)]
    assert max(rates) == pytest.approx(settings.learning_rate, rel=0.01)
    assert rates[0] < 0.05 * settings.learning_rate
    assert rates[-1] < 0.02 * settings.learning_rate


def test_budget_and_resume(disks: LabelledImage, tmp_path: Path) -> None:
    settings = Settings(minutes=0.01, windows=((64, 2, 1.0),), objects=1)
    first = train([disks], tmp_path, settings)
    assert first.seconds >= 0.6
    assert first.seconds < 30
    longer = Settings(
        minutes=first.seconds / 60 + 0.005, windows=((64, 2, 1.0),), objects=1
    )
    second = train([disks], tmp_path, longer, resume=True)
    assert second.steps > first.steps
    assert second.seconds > first.seconds
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + second.steps
    assert rows[0].startswith("step,seconds,loss")
    assert not list(tmp_path.glob("*.part"))


def test_export_reads_back(disks: LabelledImage, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SegmentAnything().eval()
    path = tmp_path / "weights.safetensors"
    export(model, path)
    with safe_open(path, "pt") as file:
        assert len(file.keys()) == 439
        assert file.metadata()["architecture"] == "tiny_vit"
        assert not file.get_tensor("image_encoder.head.weight").any()
    read = load_weights(path)
    for name, tensor in read.state_dict().items():
        if "encoder.head" in name or "norm_head" in name:
            continue
        torch.testing.assert_close(
            tensor, model.state_dict()[name], atol=1e-3, rtol=1e-3
        )
    figures = evaluate(read, [disks], objects=1)["disks"]
    assert figures.objects == 1
    assert 0 <= figures.box_iou <= figures.box_oracle <= 1


def test_a_value_beyond_float16_is_refused(tmp_path: Path) -> None:
    model = SegmentAnything()
    with torch.no_grad():
        model.mask_decoder.iou_token.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="does not fit float16"):
        export(model, tmp_path / "weights.safetensors")
