"""The predictor: coordinates, batches, embeddings and threads.

Most of it with a runtime whose masks follow from geometry; what torch itself could get wrong, with
a real network of random weights.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_tinysam
from analytic_runtime import DISK, SCORES, AnalyticRuntime, analytic_predictor
from napari_tinysam import Embedding, Predictor, Prompts
from napari_tinysam.image import to_rgb
from napari_tinysam.inference.resize import resize_longest_side
from napari_tinysam.objects.maps import boundary_distance, centre_distance

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime import DecodedPrompts

quick = settings(deadline=None, max_examples=20)

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)


@pytest.fixture
def predictor() -> Predictor:
    return analytic_predictor()


@pytest.fixture
def embedding(predictor: Predictor) -> Embedding:
    return predictor.encode(IMAGE)


def runtime_of(predictor: Predictor) -> AnalyticRuntime:
    runtime = predictor._runtime
    assert isinstance(runtime, AnalyticRuntime)
    return runtime


# ------------------------------------------------------------ public names


def test_public_names() -> None:
    for name in ("Embedding", "Masks", "Predictor", "Prompts", "load_model"):
        assert name in napari_tinysam.__all__
        assert getattr(napari_tinysam, name).__doc__
    with pytest.raises(AttributeError, match="segment_nothing"):
        _ = napari_tinysam.segment_nothing
    with pytest.raises(ValueError, match="runtime"):
        napari_tinysam.load_model(runtime="abacus")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="abacus"):
        napari_tinysam.load_model(precision="abacus")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'abacus' is not available"):
        napari_tinysam.load_model(device="abacus")


def test_what_a_predictor_calls_itself(predictor: Predictor) -> None:
    assert predictor.runtime_name == "geometry"
    assert "geometry" in repr(predictor)


# ------------------------------------------------------------ encoding


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((60, 100), (614, 1024)),
        ((100, 60), (1024, 614)),
        ((1024, 1024), (1024, 1024)),
        ((3000, 1000), (1024, 341)),
        ((1, 1), (1024, 1024)),
        ((1, 3000), (1, 1024)),  # never 0
        ((500, 333), (1024, 682)),
    ],
)
def test_the_longer_side_fills_the_frame(
    size: tuple[int, int], inside: tuple[int, int], predictor: Predictor
) -> None:
    embedding = predictor.encode(np.zeros((*size, 3), np.uint8))
    assert embedding.original_size == size
    assert embedding.input_size == inside
    assert embedding.frame_size == 1024
    assert runtime_of(predictor).encoded[0].shape == (*inside, 3)


@quick
@given(st.integers(1, 90), st.integers(1, 90))
def test_resizing_equals_the_official_one(height: int, width: int) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    image = np.random.default_rng(height).integers(
        0, 255, (height, width, 3), dtype=np.uint8
    )
    official = ResizeLongestSide(64)
    if min(official.get_preprocess_shape(height, width, 64)) == 0:
        assert min(resize_longest_side(image, 64).shape) == 1
        return
    assert np.array_equal(resize_longest_side(image, 64), official.apply_image(image))


def test_rgb_is_encoded_unchanged(predictor: Predictor) -> None:
    image = np.random.default_rng(1).integers(0, 255, (1024, 700, 3), dtype=np.uint8)
    predictor.encode(image)
    assert np.array_equal(runtime_of(predictor).encoded[0], image)


def test_options_of_the_conversion_are_passed_on(predictor: Predictor) -> None:
    stack = np.random.default_rng(1).integers(0, 999, (2, 1024, 8), dtype=np.uint16)
    options: dict[str, Any] = {"channel": 1, "contrast_limits": (100, 700)}
    predictor.encode(stack, **options)
    assert np.array_equal(runtime_of(predictor).encoded[0], to_rgb(stack, **options))


# ------------------------------------------------------------ coordinates


@quick
@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_coordinates_map_as_in_the_official_code(
    size: tuple[int, int], place: tuple[float, float]
) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    predictor = Predictor(AnalyticRuntime(), name="", model_id="")
    embedding = predictor.encode(np.zeros(size, np.uint8))
    point = np.array([[place[0] * size[1], place[1] * size[0]]], np.float32)
    found = embedding.to_frame(point)
    if min(ResizeLongestSide.get_preprocess_shape(*size, 1024)) > 0:
        official = ResizeLongestSide(1024).apply_coords(point, size)
        assert np.allclose(found, official, atol=1e-3)
    assert (found <= 1024.001).all()


@pytest.mark.parametrize("size", [(60, 100), (100, 60), (900, 1400), (512, 512)])
def test_a_box_gives_a_mask_in_its_place(
    size: tuple[int, int], predictor: Predictor
) -> None:
    height, width = size
    box = (0.2 * width, 0.3 * height, 0.6 * width, 0.8 * height)
    masks = predictor.predict(
        predictor.encode(np.zeros(size, np.uint8)), Prompts(boxes=box)
    )
    found = masks.boxed().box
    pixels_of_a_cell = 4 * max(size) / 1024
    assert np.allclose(found, box, atol=1 + pixels_of_a_cell)


def test_a_point_gives_a_mask_around_it(
    predictor: Predictor, embedding: Embedding
) -> None:
    masks = predictor.predict(embedding, Prompts(points=[(70, 20)]))
    y, x = np.nonzero(masks.boxed().to_full())
    # Segment Anything scales coordinates without regard to half pixels.
    assert abs(x.mean() - 70) <= 0.5
    assert abs(y.mean() - 20) <= 0.5
    radius = DISK * 100 / 1024
    assert len(x) == pytest.approx(np.pi * radius**2, rel=0.1)


# ------------------------------------------------------------ batches


@st.composite
def mixed_prompts(draw: st.DrawFn) -> Prompts:
    """Objects with all kinds and numbers of prompts in one `Prompts`."""
    kinds = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.booleans(), st.booleans()).filter(any),
            min_size=1,
            max_size=7,
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    number = len(kinds)
    points = rng.uniform((0, 0), (100, 60), (number, 3, 2))
    labels = rng.integers(0, 2, (number, 3))
    boxes = rng.uniform(0, 30, (number, 4)) + np.array([0, 0, 60, 30])
    masks = rng.normal(0, 9, (number, 256, 256))
    for row, (count, has_box, has_mask) in enumerate(kinds):
        labels[row, rng.permutation(3)[count:]] = -1
        boxes[row] = boxes[row] if has_box else np.nan
        masks[row] = masks[row] if has_mask else np.nan
    return Prompts(points=points, labels=labels, boxes=boxes, masks=masks)


def alone(prompts: Prompts, row: int) -> Prompts:
    """One object of several, without anything that only filled up its row."""
    arguments: dict[str, Any] = {}
    assert prompts.points is not None
    assert prompts.labels is not None
    real = prompts.labels[row] != -1
    if real.any():
        arguments["points"] = prompts.points[row][real]
        arguments["labels"] = prompts.labels[row][real]
    if prompts.has_box[row] and prompts.boxes is not None:
        arguments["boxes"] = prompts.boxes[row]
    if prompts.has_mask[row] and prompts.masks is not None:
        arguments["masks"] = prompts.masks[row]
    return Prompts(**arguments)


@quick
@given(mixed_prompts())
def test_an_object_does_not_depend_on_the_others(prompts: Prompts) -> None:
    predictor = analytic_predictor()
    embedding = predictor.encode(IMAGE)
    together = predictor.predict(embedding, prompts)
    assert len(together) == len(prompts)
    assert together.logits.shape == (len(prompts), 3, 256, 256)
    kinds = set(
        zip(prompts.point_counts, prompts.has_box, prompts.has_mask, strict=True)
    )
    assert len(runtime_of(predictor).decoded) == len(kinds)  # as few calls as can be
    for row in range(len(prompts)):
        single = predictor.predict(embedding, alone(prompts, row))
        assert np.array_equal(single.logits[0], together.logits[row])
        assert np.array_equal(single.scores[0], together.scores[row])


# ------------------------------------------------------------ masks


def test_candidates_and_scores(predictor: Predictor, embedding: Embedding) -> None:
    masks = predictor.predict(embedding, Prompts(boxes=[(20, 10, 60, 40)] * 2))
    assert masks.scores.shape == (2, 3)
    assert masks.scores.dtype == masks.logits.dtype == np.float32
    assert masks.best.tolist() == [SCORES.index(max(SCORES))] * 2
    full = masks.masks
    assert full.shape == (2, 3, 60, 100)
    assert full.dtype == bool
    best, smaller, larger = full[0]
    assert (smaller <= best).all()
    assert (best <= larger).all()
    assert smaller.sum() < best.sum() < larger.sum()
    assert masks.stability.shape == (2, 3)
    assert ((masks.stability > 0.5) & (masks.stability <= 1)).all()
    for candidate in range(3):
        assert np.array_equal(masks.boxed(1, candidate).to_full(), full[1, candidate])
        assert np.array_equal(masks.full_logits(1, candidate) > 0, full[1, candidate])
    assert np.array_equal(masks.boxed().to_full(), full[0, masks.best[0]])


def test_full_masks_are_made_when_they_are_asked_for(predictor: Predictor) -> None:
    """A prediction on a large plane costs what it costs on a small one."""
    embedding = predictor.encode(np.zeros((20_000, 200), np.uint8))
    masks = predictor.predict(embedding, Prompts(boxes=[(0, 0, 150, 15_000)] * 50))
    assert masks.logits.nbytes == 50 * 3 * 256 * 256 * 4
    boxed = masks.boxed(49)
    assert boxed.shape == (20_000, 200)
    assert abs(boxed.mask.shape[0] - 15_000) < 100
    assert abs(boxed.mask.shape[1] - 150) < 100


def test_logits_of_a_prediction_are_a_prompt(
    predictor: Predictor, embedding: Embedding
) -> None:
    first = predictor.predict(embedding, Prompts(boxes=(20, 10, 60, 40)))
    logits = first.logits[:, int(first.best[0])]
    second = predictor.predict(embedding, Prompts(masks=logits))
    assert first.boxed().iou(second.boxed()) > 0.99


# ------------------------------------------------------------ embeddings, threads


def test_an_embedding_of_another_model_is_refused(embedding: Embedding) -> None:
    other = analytic_predictor(model_id="another")
    with pytest.raises(ValueError, match="another model"):
        other.predict(embedding, Prompts(points=[(1, 1)]))
    twin = analytic_predictor()  # the same model, loaded again
    assert len(twin.predict(embedding, Prompts(points=[(1, 1)]))) == 1


@pytest.fixture(scope="module")
def torch_predictor() -> Predictor:
    """TinySAM with random weights on the CPU, two objects a batch."""
    import torch

    from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
    from napari_tinysam.model import SegmentAnything

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SegmentAnything("tiny_vit")
    runtime = TorchRuntime(model, torch.device("cpu"))
    runtime._batch = 2
    return Predictor(runtime, name="random", model_id="random")


def test_threads_and_batches_of_a_network(torch_predictor: Predictor) -> None:
    points = [[(20, 20), (70, 40)], [(30, 10), (0, 0)], [(90, 50), (5, 5)]]
    labels = [[1, 0], [1, -1], [1, 0]]
    boxes = [(10, 10, 60, 50), (20, 5, 90, 30), (50, 20, 99, 59)]
    prompts = Prompts(points=points, labels=labels, boxes=boxes)
    with ThreadPoolExecutor(2) as pool:
        embeddings = list(pool.map(torch_predictor.encode, [IMAGE, IMAGE[::-1]]))
        predict = torch_predictor.predict
        jobs = [pool.submit(predict, embeddings[n], prompts) for n in (0, 1, 0)]
        found = [job.result() for job in jobs]
    assert np.array_equal(found[0].logits, found[2].logits)
    assert np.array_equal(found[0].scores, found[2].scores)
    scale = np.abs(found[0].logits).max()
    assert np.abs(found[0].logits - found[1].logits).max() > 1e-3 * scale
    for row in (0, 1):
        single = torch_predictor.predict(embeddings[0], alone(prompts, row))
        assert np.abs(single.logits[0] - found[0].logits[row]).max() < 1e-4 * scale
        assert np.allclose(single.scores[0], found[0].scores[row], atol=1e-5)


class Frugal(AnalyticRuntime):
    """Draws only what it must, and notes what it was asked."""

    def __init__(self, *, dense: bool) -> None:
        super().__init__()
        self.dense_prompts = dense
        self.least: list[np.ndarray | None] = []
        self.exact: list[bool] = []

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        if (
            self.dense_prompts
        ):  # the point alone, so that the answer fits into its window
            prompts["masks"] = np.full_like(prompts["masks"], -1e3)
        found = super().decode(features, **prompts)
        found.scores[::2] -= 0.5
        least = prompts["least_scores"]
        self.least.append(least)
        self.exact.append(prompts["exact"])
        if least is not None:
            assert least.shape == (len(found.scores),)
            found.logits[found.scores.max(axis=1) <= least] = -np.inf
        return found


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("least", [-np.inf, 0.2, 0.6, 0.99])
def test_only_what_may_be_kept_is_drawn(least: float, dense: bool) -> None:
    runtime = Frugal(dense=dense)
    predictor = Predictor(runtime, name="frugal", model_id="frugal")
    embedding = predictor.encode(IMAGE)
    prompts = Prompts(points=np.full((6, 1, 2), 40.0, np.float32))
    whole = predictor.predict(embedding, prompts)
    part = predictor.predict(embedding, prompts, least_score=least)
    np.testing.assert_array_equal(part.scores, whole.scores)
    kept = whole.scores.max(axis=1) > least
    assert kept.any() == (least < 0.9)
    np.testing.assert_array_equal(part.logits[kept], whole.logits[kept])
    assert (part.logits[~kept] == -np.inf).all()
    assert runtime.least[0] is None
    if least == -np.inf:
        assert runtime.least[-1] is None
    else:
        asked = runtime.least[-1]
        assert asked is not None
        np.testing.assert_array_equal(asked, np.full(len(asked), least, np.float32))


def test_answers_are_as_exact_as_asked() -> None:
    runtime = Frugal(dense=True)
    predictor = Predictor(runtime, name="frugal", model_id="frugal")
    embedding = predictor.encode(IMAGE)
    prompts = Prompts(points=np.full((1, 1, 2), 40.0, np.float32))
    predictor.predict(embedding, prompts)
    predictor.predict(embedding, prompts, exact=False)
    assert runtime.exact[0] is True
    assert runtime.exact[-1] is False


# ------------------------------------------------------------ object maps


def test_object_maps_of_a_model_without_head(
    predictor: Predictor, embedding: Embedding
) -> None:
    assert not predictor.has_object_head
    assert predictor.object_maps(embedding) is None


@pytest.mark.parametrize("side", [256, 512])
def test_object_maps_are_the_runtimes(side: int) -> None:
    maps = np.random.default_rng(0).random((3, side, side), np.float32)
    predictor = analytic_predictor(object_maps=maps)
    embedding = predictor.encode(IMAGE)
    assert predictor.has_object_head
    assert predictor.object_maps(embedding) is maps
    assert embedding.regions is None  # clicks of this model are not drawn
    other = analytic_predictor("another", maps)
    with pytest.raises(ValueError, match="another model"):
        other.object_maps(embedding)


def test_object_maps_of_a_network(torch_predictor: Predictor) -> None:
    import torch

    from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
    from napari_tinysam.model.object_head import ObjectHead

    embedding = torch_predictor.encode(IMAGE)
    assert not torch_predictor.has_object_head
    assert torch_predictor.object_maps(embedding) is None
    runtime = torch_predictor._runtime
    assert isinstance(runtime, TorchRuntime)
    model = runtime._model
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = ObjectHead().eval()
    model.object_head = head
    try:
        predictor = Predictor(
            TorchRuntime(model, torch.device("cpu")), name="random", model_id="random"
        )
        assert predictor.has_object_head
        embedding = predictor.encode(IMAGE)
        maps = predictor.object_maps(embedding)
        with torch.inference_mode():
            expected = torch.sigmoid(head(embedding.features.embedding))[0].numpy()
    finally:
        model.object_head = None
    assert maps is not None
    assert maps.dtype == np.float32
    assert maps.shape == (3, 256, 256)
    assert np.allclose(maps, expected, atol=1e-6)


def maps_of(labels: np.ndarray) -> np.ndarray:
    """(3, h, w), what a perfect head would say of objects."""
    layers = (
        labels > 0,
        centre_distance(labels) / 255,
        boundary_distance(labels) / 255,
    )
    return np.stack(layers).astype(np.float32)


def disc_of(radius: int) -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    return (np.hypot(y - 128, x - 128) < radius).astype(np.int32)


def in_patches(disc: np.ndarray) -> np.ndarray:
    """Maps of a disc that was seen as patches, each taken for the middle of something else."""
    maps = maps_of(disc)
    y, x = np.mgrid[:256, :256]
    patches = (disc * (1 + y // 24 * 11 + x // 24)).astype(np.int32)
    maps[2] = maps_of(np.unique(patches, return_inverse=True)[1].reshape(256, 256))[2]
    return maps


def test_large_objects_are_those_of_the_half_size_if_its_maps_confirm_them() -> None:
    disc = disc_of(100)
    runtime = AnalyticRuntime(in_patches(disc), maps_of(disc))
    predictor = Predictor(runtime, name="two looks", model_id="two looks")
    embedding = predictor.encode(IMAGE)
    (seen,) = runtime.halves
    assert seen.shape == (307, 512, 3)
    assert predictor.object_maps(embedding) is runtime._half


def test_the_half_size_is_not_taken_where_its_maps_contradict_themselves() -> None:
    disc = disc_of(100)
    runtime = AnalyticRuntime(maps_of(disc), in_patches(disc))
    predictor = Predictor(runtime, name="two looks", model_id="two looks")
    embedding = predictor.encode(IMAGE)
    assert len(runtime.halves) == 1
    assert predictor.object_maps(embedding) is runtime._object_maps


def test_small_objects_need_no_second_look() -> None:
    disc = disc_of(8)  # 57 pixels of the frame
    runtime = AnalyticRuntime(maps_of(disc), maps_of(disc_of(100)))
    predictor = Predictor(runtime, name="two looks", model_id="two looks")
    square = np.zeros((64, 64, 3), np.uint8)
    assert predictor.object_maps(predictor.encode(square)) is runtime._object_maps
    assert not runtime.halves


def test_regions_of_drawn_prompts_are_those_of_the_maps_that_are_taken() -> None:
    disc = disc_of(100)
    runtime = AnalyticRuntime(in_patches(disc), maps_of(disc))
    runtime.dense_prompts = True
    predictor = Predictor(runtime, name="two looks", model_id="two looks")
    embedding = predictor.encode(np.zeros((64, 64, 3), np.uint8))
    assert embedding.regions is not None
    assert embedding.regions.max() == 1
    assert np.array_equal(embedding.regions > 0, disc > 0)


@pytest.mark.parametrize("later", [0.0, 0.02, 0.05])
def test_other_imports_right_after_a_model_was_loaded(later: float) -> None:
    """What is imported ahead in the background must not meet them half-way."""
    code = (
        "import time; from napari_tinysam import load_model; load_model('default');"
        f"time.sleep({later});"
        "from skimage.measure import regionprops_table; print('imported')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "imported\n", ran.stderr
