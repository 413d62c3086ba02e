"""OpenVINO answers as torch does, without torch, from any thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from command import run_command
from efficient_models import efficient_model, in_half_precision
from napari_tinysam import Predictor, Prompts, checkpoints, load_model
from napari_tinysam.errors import DamagedModelError
from napari_tinysam.inference.runtime.choice import (
    is_prepared,
    needs_preparing,
    prepare_in_background,
)
from napari_tinysam.inference.runtime.openvino import store
from napari_tinysam.inference.runtime.openvino.compiled import Graph, openvino_core
from napari_tinysam.inference.runtime.openvino.conversion import convert
from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime
from napari_tinysam.inference.runtime.prompt_tokens import PromptTokens
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.model import SegmentAnything

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")

SIDE = 256


def random_model(*, dense: bool) -> SegmentAnything:
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", SIDE, object_head=dense, details=dense)
    model.dense_prompts = dense
    for parameter in [
        *model.prompt_encoder.parameters(),
        *model.mask_decoder.parameters(),
    ]:
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    for parameter in model.object_head.parameters() if model.object_head else ():
        if not parameter.any():  # what details add, and more
            parameter.data.normal_(std=0.1)
    return model.eval()


MODELS = {
    "dense": lambda: random_model(dense=True),
    "plain": lambda: random_model(dense=False),
    "efficient": efficient_model,
    "efficient and plain": lambda: efficient_model(head=False, dense=False),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TorchRuntime, OpenVinoRuntime]:
    model = MODELS[request.param]()
    folder = tmp_path_factory.mktemp("graphs")
    convert(model, folder)
    both = TorchRuntime(model, torch.device("cpu")), OpenVinoRuntime(folder)
    for name in ("image_size", "has_object_head", "dense_prompts"):
        assert getattr(both[0], name) == getattr(both[1], name)
    return both


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def prompts(count: int, side: int, *, masks: bool, kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    found: dict[str, Any] = dict.fromkeys(("points", "labels", "boxes", "masks"))
    if "point" in kind:
        found["points"] = rng.uniform(0, side, (count, 2, 2)).astype(np.float32)
        found["labels"] = rng.integers(0, 2, (count, 2)).astype(np.int32)
    if "box" in kind:
        corners = np.sort(rng.uniform(0, side, (count, 2, 2)), axis=1)
        found["boxes"] = corners.reshape(count, 4).astype(np.float32)
    if masks:
        found["masks"] = rng.normal(0, 8, (count, side // 4, side // 4))
        found["masks"] = found["masks"].astype(np.float32)
    return found


def assert_alike(found: np.ndarray, expected: np.ndarray, share: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()


#: Of logits that finer features are in: they are kept in 16 bits, and what lies between two steps
#: of those is rounded to one by one runtime, and to the other by another.
WITH_DETAILS = 5e-4


def test_features_can_be_kept(pair: tuple[TorchRuntime, OpenVinoRuntime]) -> None:
    rgb = image(SIDE - 50, SIDE)
    given = prompts(5, SIDE, masks=pair[0].dense_prompts, kind="point")
    for runtime in pair:
        features = runtime.encode(rgb)
        arrays = runtime.arrays_of(features)
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
        again = runtime.features_of(arrays)
        assert again.nbytes == features.nbytes
        expected, found = (runtime.decode(each, **given) for each in (features, again))
        assert_alike(found.logits, expected.logits, 5e-3)
        assert_alike(found.scores, expected.scores, 5e-3)
        with pytest.raises(ValueError, match="not the features"):
            runtime.features_of({"other": np.zeros((4, 4), np.float32)})
        with pytest.raises(ValueError, match="not the features"):
            runtime.features_of({})


def test_features_are_shown_as_by_torch(
    pair: tuple[TorchRuntime, OpenVinoRuntime],
) -> None:
    rgb = image(SIDE - 50, SIDE)
    features = [runtime.encode(rgb) for runtime in pair]
    expected, found = (
        runtime.feature_maps(each) for runtime, each in zip(pair, features, strict=True)
    )
    np.testing.assert_array_equal(expected[0], features[0].embedding[0])
    assert len(found) == len(expected) == (3 if len(features[1].details) > 2 else 1)
    sides = [SIDE // 16, SIDE // 8, SIDE // 4]
    for one, other, side in zip(found, expected, sides, strict=False):
        assert one.shape == other.shape == (other.shape[0], side, side)
        share = 5e-3 if one.dtype == np.float16 else 1e-4
        assert_alike(one.astype("f4"), other.astype("f4"), share)


@pytest.mark.parametrize("kind", ["point", "box", "point and box", "mask"])
def test_it_answers_as_torch(
    pair: tuple[TorchRuntime, OpenVinoRuntime], kind: str
) -> None:
    dense = pair[0].dense_prompts
    rgb = image(SIDE - 50, SIDE)
    features = [runtime.encode(rgb) for runtime in pair]
    given = prompts(11, SIDE, masks=dense or kind == "mask", kind=kind)
    expected, found = (
        runtime.decode(each, **given)
        for runtime, each in zip(pair, features, strict=True)
    )
    assert found.logits.shape == (11, 3, SIDE // 4, SIDE // 4)
    share = WITH_DETAILS if features[1].details else 1e-4
    assert_alike(found.logits, expected.logits, share)
    assert_alike(found.scores, expected.scores)
    maps = [r.object_maps(e) for r, e in zip(pair, features, strict=True)]
    if dense:
        assert maps[0] is not None
        assert maps[1] is not None
        assert_alike(maps[1], maps[0])
    else:
        assert maps == [None, None]


@pytest.mark.parametrize(
    ("kind", "count"), [("point", 1), ("box", 11), ("point and box", 18), ("mask", 3)]
)
def test_it_answers_as_torch_in_windows(
    pair: tuple[TorchRuntime, OpenVinoRuntime], kind: str, count: int
) -> None:
    features = [runtime.encode(image(SIDE - 50, SIDE)) for runtime in pair]
    given = prompts(count, SIDE, masks=True, kind=kind)
    given["masks"] = given["masks"][:, :32, :32]
    given["corners"] = np.random.default_rng(count).integers(0, 9, (count, 2))
    expected, found = (
        runtime.decode(each, **given)
        for runtime, each in zip(pair, features, strict=True)
    )
    assert found.logits.shape == (count, 3, 32, 32)
    share = WITH_DETAILS if features[1].details else 1e-4
    assert_alike(found.logits, expected.logits, share)
    assert_alike(found.scores, expected.scores)
    least = np.full(count, np.median(expected.scores.max(axis=1)), np.float32)
    for runtime, each in zip(pair, features, strict=True):
        part = runtime.decode(each, **given, least_scores=least)
        drawn = part.scores.max(axis=1) > least
        assert (part.logits[~drawn] == -np.inf).all()
        if drawn.any():
            assert_alike(part.logits[drawn], expected.logits[drawn], share)


def test_objects_below_a_score_are_not_drawn(
    pair: tuple[TorchRuntime, OpenVinoRuntime],
) -> None:
    for runtime in pair:
        features = runtime.encode(image(200, SIDE))
        given = prompts(11, SIDE, masks=runtime.dense_prompts, kind="point")
        whole = runtime.decode(features, **given)
        best = whole.scores.max(axis=1)
        # Of some none, of others all; a batch of which nothing is drawn, too.
        for least in (np.full(11, np.median(best)), best - 0.1, np.full(11, np.inf)):
            part = runtime.decode(
                features, **given, least_scores=least.astype(np.float32)
            )
            drawn = best > least.astype(np.float32)
            np.testing.assert_array_equal(part.scores, whole.scores)
            assert (part.logits[~drawn] == -np.inf).all()
            if drawn.any():
                assert_alike(part.logits[drawn], whole.logits[drawn])


@pytest.mark.parametrize("kind", ["dense", "efficient"])
def test_it_is_as_exact_as_it_pays_on_this_cpu(tmp_path: Path, kind: str) -> None:
    """In bfloat16 only where the CPU computes in it, and then the attention still in float32."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    convert(MODELS[kind](), folder)
    chosen = OpenVinoRuntime(folder, precision="auto")
    able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert chosen.precision == ("bf16" if "BF16" in able else "f32")
    assert chosen.precision in chosen.name
    exact = OpenVinoRuntime(folder)
    assert exact.precision == "f32"
    if chosen.precision == "f32":
        pytest.skip("this CPU has no instructions for bfloat16")
    given = prompts(11, SIDE, masks=True, kind="point")
    features = [runtime.encode(image(200, SIDE)) for runtime in (exact, chosen)]
    # The same image: what differs now is the drawing alone.
    expected, found = (r.decode(features[0], **given) for r in (exact, chosen))
    np.testing.assert_array_equal(found.scores, expected.scores)
    near = np.abs(found.logits - expected.logits).max()
    assert 0 < near <= 0.02 * np.abs(expected.logits).max()
    found = chosen.decode(features[1], **given)
    off = np.abs(found.logits - expected.logits).mean()
    assert off <= 0.05 * np.abs(expected.logits).mean()


def test_finer_features_are_kept_in_half_precision(tmp_path: Path) -> None:
    folder = tmp_path / "graphs"
    folder.mkdir()
    model = efficient_model()
    convert(model, folder)
    cells = SIDE // 16
    for precision in ("f32", "auto"):
        found = OpenVinoRuntime(folder, precision=precision).encode(image(200, SIDE))
        shapes = [
            (1, 4 * cells**2, 64),
            (1, 16 * cells**2, 32),
            (1, 48, 2 * cells, 2 * cells),
            (1, 24, 4 * cells, 4 * cells),
        ]
        assert [each.shape for each in found.details] == shapes
        assert {each.dtype for each in found.details} == {np.dtype(np.float16)}
        assert found.maps is not None
        assert found.maps.shape == (3, SIDE // 2, SIDE // 2)
    of_torch = TorchRuntime(model, torch.device("cpu")).encode(image(200, SIDE)).side
    assert of_torch.details is not None
    assert {each.dtype for each in of_torch.details} == {torch.float16}


def test_weights_of_sixteen_bits_take_sixteen_bits_on_disk(tmp_path: Path) -> None:
    """And nothing is lost: the graphs answer as those of 32 bits would."""
    sizes = []
    for name, model in (
        ("whole", efficient_model()),
        ("half", in_half_precision(efficient_model())),
    ):
        folder = tmp_path / name
        folder.mkdir()
        convert(model, folder)
        sizes.append(sum(file.stat().st_size for file in folder.glob("*.bin")))
    assert sizes[1] < 0.55 * sizes[0]
    both = TorchRuntime(model, torch.device("cpu")), OpenVinoRuntime(folder)
    given = prompts(3, SIDE, masks=True, kind="point")
    expected, found = (
        runtime.decode(runtime.encode(image(200, SIDE)), **given) for runtime in both
    )
    assert_alike(found.logits, expected.logits, WITH_DETAILS)
    assert_alike(found.scores, expected.scores)


@pytest.mark.parametrize("count", [3, 19], ids=["few", "many"])
def test_threads_do_not_mix_their_images(
    pair: tuple[TorchRuntime, OpenVinoRuntime], count: int
) -> None:
    _, runtime = pair
    given = prompts(count, SIDE, masks=runtime.dense_prompts, kind="point")

    def answer(number: int) -> np.ndarray:
        features = runtime.encode(image(100 + number, SIDE))
        return runtime.decode(features, **given).logits

    alone = [answer(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, [0, 1, 2, 3] * 3))
    for number, found in enumerate(together):
        np.testing.assert_allclose(found, alone[number % 4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_searches_may_get_rounder_answers(tmp_path: Path, precision: Any) -> None:
    """Where the CPU computes in bfloat16, and then from few and many prompts alike."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    convert(random_model(dense=True), folder)
    runtime = OpenVinoRuntime(folder, precision=precision)
    features = runtime.encode(image(200, SIDE))
    given = prompts(20, SIDE, masks=True, kind="point")
    exact = runtime.decode(features, **given)
    rough = runtime.decode(features, **given, exact=False)
    few = {k: None if a is None else a[:3] for k, a in given.items()}
    of_few = runtime.decode(features, **few, exact=False)
    able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "f32" or "BF16" not in able:
        assert_alike(rough.scores, exact.scores)
        assert_alike(of_few.scores, exact.scores[:3])
        return
    off = np.abs(rough.scores - exact.scores).max()
    assert 1e-4 < off < 0.05
    assert np.abs(of_few.scores - exact.scores[:3]).max() > 1e-4
    signs = (rough.logits > 0) == (exact.logits > 0)
    assert signs.mean() > 0.97


def test_no_prompts_are_no_answers(
    pair: tuple[TorchRuntime, OpenVinoRuntime],
) -> None:
    for runtime in pair:
        features = runtime.encode(image(200, SIDE))
        given = prompts(0, SIDE, masks=runtime.dense_prompts, kind="point")
        found = runtime.decode(features, **given)
        assert found.logits.shape == (0, 3, SIDE // 4, SIDE // 4)
        assert found.scores.shape == (0, 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 40])
def test_many_prompts_get_the_answers_of_few(
    pair: tuple[TorchRuntime, OpenVinoRuntime], count: int
) -> None:
    """Each thread decodes some of its own, or all share the work; in parts of any size."""
    _, runtime = pair
    features = runtime.encode(image(200, SIDE))
    given = prompts(count, SIDE, masks=runtime.dense_prompts, kind="point")
    whole = runtime.decode(features, **given)
    for row in {0, count // 2, count - 1}:
        one = {k: None if a is None else a[row : row + 1] for k, a in given.items()}
        alone = runtime.decode(features, **one)
        assert_alike(whole.logits[row : row + 1], alone.logits)
        assert_alike(whole.scores[row : row + 1], alone.scores)


def test_a_damaged_decoder_for_many_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "graphs"
    folder.mkdir()
    convert(random_model(dense=True), folder)
    runtime = OpenVinoRuntime(folder)
    features = runtime.encode(image(200, SIDE))
    few, many = (prompts(n, SIDE, masks=True, kind="point") for n in (1, 20))
    (folder / "decoder_masked.xml").unlink()
    assert runtime.decode(features, **few).scores.shape == (1, 3)
    with pytest.raises(DamagedModelError, match="load the model again"):
        runtime.decode(features, **many)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGCHLD")
def test_signals_find_their_stack_after_a_runtime_has_gone(tmp_path: Path) -> None:
    """A runtime that another thread destroys took the stack for signals along with it."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    convert(random_model(dense=False), folder)
    code = f"""
import gc, signal, subprocess, sys, threading
from pathlib import Path
from napari_tinysam.inference.runtime.openvino.compiled import Graph
from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime

seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
runtimes = [OpenVinoRuntime(Path({str(folder)!r}), precision="auto")]

def drop():
    runtimes.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)
assert seen
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_tokens_are_the_prompt_encoders() -> None:
    model = random_model(dense=False)
    encoder: Any = model.prompt_encoder
    kinds = [*encoder.point_embeddings, encoder.not_a_point_embed]
    own = PromptTokens(
        encoder.pe_layer.positional_encoding_gaussian_matrix.numpy(),
        torch.cat([kind.weight for kind in kinds]).detach().numpy(),
        SIDE,
    )
    for kind in ("point", "box", "point and box"):
        given = prompts(4, SIDE, masks=False, kind=kind)
        points = None
        if given["points"] is not None:
            points = torch.tensor(given["points"]), torch.tensor(given["labels"])
        boxes = None if given["boxes"] is None else torch.tensor(given["boxes"])
        with torch.no_grad():
            expected, _ = encoder(points, boxes, None)
        found = own.tokens(4, given["points"], given["labels"], given["boxes"])
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert own.tokens(4, None, None, None).shape == (4, 0, 256)


# ------------------------------------------------------------ loading


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a small model of the usual frame, with everything that the bundled one has."""
    torch.manual_seed(1)
    model = SegmentAnything("tiny_vit_2m", object_head=True)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoints.save(model, path, {"made_by": "a test"})
    return path


@pytest.fixture(scope="module")
def dense_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a model whose prompts are drawn."""
    path = tmp_path_factory.mktemp("dense") / "dense.safetensors"
    torch.manual_seed(2)
    model = SegmentAnything("tiny_vit_2m", object_head=True)
    model.dense_prompts = True
    checkpoints.save(model, path)
    return path


def answer_of(predictor: Predictor) -> np.ndarray:
    embedding = predictor.encode(image(300, 400))
    return predictor.predict(embedding, Prompts(points=[[[200, 150]]])).logits


def test_a_model_is_converted_once_and_then_found(weights: Path) -> None:
    assert "torch" in load_model(weights, device="cpu").runtime_name
    first = load_model(weights, runtime="openvino", precision="f32")
    assert "OpenVINO" in first.runtime_name
    assert first.notes["made_by"] == "a test"
    assert first.model_id != load_model(weights, runtime="torch").model_id
    again = load_model(weights, device="cpu", precision="f32")
    assert again.runtime_name == first.runtime_name
    assert again.model_id == first.model_id
    assert again.name == "small.safetensors"
    expected = answer_of(load_model(weights, runtime="torch", device="cpu"))
    assert_alike(answer_of(again), expected)


def test_it_takes_as_many_threads_as_it_may(weights: Path) -> None:
    runtime = load_model(weights, runtime="openvino", threads=1)._runtime
    assert isinstance(runtime, OpenVinoRuntime)
    compiled = runtime._upscaler._compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_later_start_imports_no_torch(weights: Path) -> None:
    load_model(weights, runtime="openvino")
    code = f"""
import sys
import numpy as np
from napari_tinysam import Prompts, load_model

predictor = load_model({str(weights)!r}, device="cpu")
assert "OpenVINO" in predictor.runtime_name
embedding = predictor.encode(np.zeros((64, 64, 3), np.uint8))
predictor.predict(embedding, Prompts(points=[[[9, 9]]]))
predictor.object_maps(embedding)
print([name for name in ("torch", "timm", "segment_anything") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_what_does_not_load_is_made_anew(weights: Path) -> None:
    load_model(weights, runtime="openvino")
    folder = store.folder_of(checkpoints.locate(weights).fingerprint)
    arrays = folder / "arrays.npz"
    size = arrays.stat().st_size
    arrays.write_bytes(bytes(size))
    # "auto" goes on with torch, and does not stumble over it a second time.
    assert "torch" in load_model(weights, device="cpu").runtime_name
    assert not folder.exists()
    load_model(weights, runtime="openvino")
    arrays.write_bytes(bytes(size))
    assert "OpenVINO" in load_model(weights, runtime="openvino").runtime_name


@pytest.mark.parametrize(
    "file", ["encoder.bin", "encoder.xml", "upscaler.xml", "about.json"]
)
def test_a_damaged_graph_is_noticed_before_anybody_works_with_it(
    file: str, dense_weights: Path
) -> None:
    # All of it is read: a file that is cut while it is mapped would end the process.
    answer_of(load_model(dense_weights, runtime="openvino"))
    folder = store.folder_of(checkpoints.locate(dense_weights).fingerprint)
    damaged = folder / file
    size = damaged.stat().st_size
    # As after a crash of the computer: of the right length, and nothing but zeros.
    damaged.write_bytes(bytes(size // 2 if file.endswith(".bin") else size))
    if file.endswith(".bin"):  # weights of zeros are weights: the length tells
        assert not store.is_whole(folder)
    predictor = load_model(dense_weights, device="cpu")
    assert "torch" in predictor.runtime_name
    assert np.isfinite(answer_of(predictor)).all()


def test_openvino_is_refused_on_a_gpu(weights: Path) -> None:
    with pytest.raises(ValueError, match="on the CPU here, not on 'cuda'"):
        load_model(weights, runtime="openvino", device="cuda")


def other(weights: Path, folder: Path) -> Path:
    """The same model in a file that nothing was converted from."""
    path = folder / "other.safetensors"
    notes = {"made_by": folder.name}
    checkpoints.save(checkpoints.load(weights).model, path, notes)
    return path


def test_auto_converts_for_those_who_can_wait(weights: Path, tmp_path: Path) -> None:
    path, said = other(weights, tmp_path), list[str]()
    predictor = load_model(path, device="cpu", convert=said.append)
    assert "OpenVINO" in predictor.runtime_name
    assert len(said) == 1
    load_model(path, device="cpu", convert=said.append)
    assert len(said) == 1


def test_a_driver_without_a_device_for_torch_is_a_cpu(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model(weights, runtime="openvino")
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice.may_have_gpu", lambda: True
    )
    device = [torch.device("cpu")]
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.torch_runtime.choose_device",
        lambda _: device[0],
    )
    assert "OpenVINO" in load_model(weights).runtime_name
    device[0] = torch.device("meta")  # some GPU
    assert "torch" in load_model(weights).runtime_name


def test_torch_stands_in_where_nothing_can_be_converted(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = other(weights, tmp_path), list[str]()
    blocked = tmp_path / "cache"
    blocked.write_text("no folder")
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(blocked))
    predictor = load_model(path, device="cpu", convert=said.append)
    assert "torch" in predictor.runtime_name
    assert len(said) == 2
    assert "PyTorch runs it instead" in said[1]
    with pytest.raises(ValueError, match="cannot be converted"):
        load_model(path, runtime="openvino")


def test_another_openvino_than_ours_is_no_reason_to_stop(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object, **__: object) -> None:
        raise AttributeError("module 'openvino' has no attribute 'Core'")

    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.openvino.conversion.convert", convert
    )
    path, said = other(weights, tmp_path), list[str]()
    assert "torch" in load_model(path, device="cpu", convert=said.append).runtime_name
    assert "no attribute 'Core'" in said[1]


@pytest.mark.parametrize("convert", [None, lambda _: None])
@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_what_is_no_file_of_weights_is_refused_as_ever(
    runtime: Any, convert: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    for name, sentence in (
        ("missing.pth", "There is no file"),
        ("folder.pth", "is a folder, not a file of weights"),
        ("empty.pth", "is an empty file"),
        ("weights.safetensors", "weights.safetensors"),
    ):
        with pytest.raises(checkpoints.CheckpointError, match=sentence):
            load_model(tmp_path / name, device="cpu", runtime=runtime, convert=convert)


def test_plain_vits_stay_with_torch(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="only models with a TinyViT"):
        convert(SegmentAnything.uninitialized("vit_b"), tmp_path)
    # Told by their size, before anything is read or started.
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice._LARGEST_CONVERTIBLE", 1000
    )
    path, said = other(weights, tmp_path), list[str]()
    assert "torch" in load_model(path, device="cpu", convert=said.append).runtime_name
    assert said == []
    assert not prepare_in_background(path, "0123456789abcdef/cpu")
    assert not needs_preparing(path, "cpu")


def test_the_plugin_prepares_the_next_start_beside_itself(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(
        "subprocess.Popen", lambda command, **_: started.append(command)
    )
    path = other(weights, tmp_path)
    fingerprint = checkpoints.locate(path).fingerprint
    assert not is_prepared(f"{fingerprint}/cpu")
    assert needs_preparing(path, "cpu")
    assert not needs_preparing(path, "cuda")
    assert not needs_preparing(tmp_path / "gone.pth", "cpu")
    assert prepare_in_background(path, f"{fingerprint}/cpu")
    assert not prepare_in_background(path, f"{fingerprint}/cuda")
    assert not prepare_in_background(path, f"{fingerprint}/openvino-f32")
    monkeypatch.undo()
    (command,) = started
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = store.folder_of(fingerprint)
    assert store.is_whole(folder)
    assert any((folder / "compiled").iterdir())
    assert is_prepared(f"{fingerprint}/cpu")
    assert not needs_preparing(path, "cpu")
    assert not is_prepared(f"{fingerprint}/openvino-f32")
    assert not prepare_in_background(path, f"{fingerprint}/cpu")


def test_the_end_of_the_preparation_is_told(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = other(weights, tmp_path)
    process = SimpleNamespace(wait=lambda: 0)
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: process)
    ended = threading.Event()
    assert prepare_in_background(path, "0123456789abcdef/cpu", ended.set)
    assert ended.wait(30)


def test_a_conversion_that_fails_is_not_tried_at_every_start(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def convert(*_: object, **__: object) -> None:
        raise MemoryError

    path = other(weights, tmp_path)
    fingerprint = checkpoints.locate(path).fingerprint
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *a, **_: started.append(a))
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.openvino.conversion.convert", convert
    )
    lowered: list[int] = []  # never this process, for all tests that follow
    monkeypatch.setattr("os.nice", lowered.append, raising=False)
    assert prepare_in_background(path, f"{fingerprint}/cpu")
    done = run_command(capsys, "prepare", path)
    assert done.code == 1
    assert "cannot be converted" in done.err
    assert "not enough memory" in done.err
    assert lowered == [10]
    assert not prepare_in_background(path, f"{fingerprint}/cpu")
    assert not needs_preparing(path, "cpu")  # it stays as it is
    note = store.folder_of(fingerprint).with_name(
        store.folder_of(fingerprint).name + ".failed"
    )
    assert "not enough memory" in note.read_text()
    month_ago = note.stat().st_mtime - 30 * 24 * 3600
    os.utime(note, (month_ago, month_ago))
    assert prepare_in_background(path, f"{fingerprint}/cpu")
    assert len(started) == 2


def test_maps_of_an_image_of_half_the_size(tmp_path: Path) -> None:
    """OpenVINO, torch, and the model's own modules on a frame of half the side."""
    model = MODELS["efficient"]()
    folder = tmp_path / "graphs"
    folder.mkdir()
    convert(model, folder)
    side = SIDE // 2
    rgb = np.random.default_rng(1).integers(0, 256, (side, 100, 3), np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        frame = model.normalize_and_pad(pixels)[..., :side, :side]
        expected = model.object_maps(model.features(frame))[0].sigmoid().numpy()
    reference = TorchRuntime(model, torch.device("cpu"))
    for runtime in (OpenVinoRuntime(folder), reference):
        found = runtime.maps_of_half(rgb)
        assert found is not None
        assert found.shape == (3, SIDE // 4, SIDE // 4)
        assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("kind", ["plain", "dense", "efficient and plain"])
def test_without_a_fine_head_there_are_no_maps_of_half_the_size(
    kind: str, tmp_path: Path
) -> None:
    model = MODELS[kind]()
    convert(model, tmp_path)
    rgb = np.zeros((SIDE // 2, SIDE // 2, 3), np.uint8)
    for runtime in (
        OpenVinoRuntime(tmp_path),
        TorchRuntime(model, torch.device("cpu")),
    ):
        assert runtime.maps_of_half(rgb) is None


def test_graphs_are_compiled_one_at_a_time(tmp_path: Path) -> None:
    """Two at once may leave the locale of the process changed: OpenVINO sets it meanwhile."""
    busy = threading.Lock()

    class Core:
        def compile_model(self, *_: Any) -> None:
            assert busy.acquire(blocking=False)
            time.sleep(0.02)
            busy.release()

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(
            lambda name: Graph(Core(), tmp_path / name, {}), map(str, range(4))
        ):
            pass
