"""Embeddings on disk: round trips, keys, damage, and writing in the background."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic_runtime import analytic_predictor
from efficient_models import efficient_model
from napari_tinysam import Predictor, Prompts
from napari_tinysam.inference import kept as module
from napari_tinysam.inference.kept import KeptEmbeddings, default_folder, key_of
from napari_tinysam.inference.runtime import KeepsFeatures
from napari_tinysam.inference.runtime.protocol import in_float16
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime

ARRAYS = {
    "half": np.linspace(-3, 3, 240, dtype=np.float16).reshape(4, 60),
    "whole": np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32),
    "regions": np.arange(64, dtype=np.int32).reshape(8, 8),
    "nothing": np.zeros((0, 3), np.float32),
    "transposed": np.arange(12, dtype=np.int16).reshape(3, 4).T,
}


@pytest.fixture
def kept(tmp_path: Path) -> KeptEmbeddings:
    return KeptEmbeddings(folder=tmp_path / "embeddings", delay=0)


def assert_same(found: Any, expected: Any) -> None:
    assert found is not None
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def noise(height: int = 60, width: int = 100) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)


# ------------------------------------------------------------ entries


def test_arrays_are_found_as_they_were_kept(kept: KeptEmbeddings) -> None:
    assert kept.find("key") is None
    assert kept.keep("key", ARRAYS)
    assert_same(kept.find("key"), ARRAYS)
    assert [path.suffix for path in kept.files.folder.iterdir()] == [".safetensors"]


def test_compression_is_worth_it(kept: KeptEmbeddings) -> None:
    kept.keep("key", {"zeros": np.zeros(100_000, np.float32)})
    assert kept.files.size < 20_000


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_damaged_entry_is_none_or_changes_nothing(at: float, bit: int) -> None:
    content = bytearray(module._packed(ARRAYS, "key"))
    content[int(at * len(content))] ^= 1 << bit
    try:
        found = module._unpacked(bytes(content), "key")
    except Exception:  # noqa: BLE001 - whatever libraries raise
        return
    assert_same(found, ARRAYS)


@pytest.mark.parametrize("content", [b"", b"PK", bytes(5000), None])
def test_damaged_foreign_and_truncated_entries_are_removed(
    kept: KeptEmbeddings, content: bytes | None
) -> None:
    kept.keep("key", ARRAYS)
    (path,) = kept.files.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    assert kept.find("key") is None
    assert not path.exists()


def test_an_entry_under_the_name_of_another_is_not_taken(kept: KeptEmbeddings) -> None:
    kept.keep("key", ARRAYS)
    (path,) = kept.files.folder.iterdir()
    path.rename(path.with_stem("other"))
    assert kept.find("other") is None


def test_a_limit_of_nothing_writes_nothing(tmp_path: Path) -> None:
    off = KeptEmbeddings(0, tmp_path / "embeddings", delay=0)
    assert not off.keep("key", ARRAYS)
    off.keep_later("key", lambda: ARRAYS)
    off.flush()
    assert off.find("key") is None
    assert not (tmp_path / "embeddings").exists()


def test_the_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(module.ENVIRONMENT_VARIABLE, str(tmp_path))
    assert default_folder() == tmp_path / "embeddings"
    monkeypatch.delenv(module.ENVIRONMENT_VARIABLE)
    assert default_folder().name == "embeddings"


def test_keys_tell_pixels_shapes_and_models_apart() -> None:
    seen = noise()
    other = seen.copy()
    other[3, 4, 1] ^= 1
    keys = [
        key_of(seen, "one"),
        key_of(other, "one"),
        key_of(seen, "two"),
        key_of(seen.reshape(100, 60, 3), "one"),
        key_of(seen[..., :1], "one"),
    ]
    assert len(set(keys)) == 5
    assert key_of(np.asfortranarray(seen), "one") == keys[0]


# ------------------------------------------------------------ in the background


def test_entries_are_written_in_the_background(kept: KeptEmbeddings) -> None:
    gate, threads = threading.Event(), []

    def arrays() -> dict[str, np.ndarray]:
        assert gate.wait(10)
        threads.append(threading.current_thread())
        return ARRAYS

    kept.keep_later("key", arrays)
    assert kept.find("key") is None
    gate.set()
    kept.flush(10)
    assert threads[0] is not threading.current_thread()
    assert_same(kept.find("key"), ARRAYS)
    kept.keep_later("again", lambda: ARRAYS)  # the first writer has ended
    kept.flush(10)
    assert_same(kept.find("again"), ARRAYS)


def test_a_failure_in_the_background_is_none_of_the_next_one(
    kept: KeptEmbeddings,
) -> None:
    def fail() -> Any:
        raise MemoryError

    kept.keep_later("one", fail)
    kept.keep_later("two", lambda: ARRAYS)
    kept.flush(10)
    assert kept.find("one") is None
    assert kept.find("two") is not None


def test_what_waits_when_python_ends_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(module, "ending", over)
    kept = KeptEmbeddings(folder=tmp_path, delay=1e6)
    kept.keep_later("0" * 64, lambda: {"a": np.zeros(3, np.float32)})
    over.set()
    kept.flush(60)
    assert kept.find("0" * 64) is None
    assert not any(tmp_path.glob("*.safetensors"))


def test_few_wait_to_be_written(tmp_path: Path) -> None:
    kept = KeptEmbeddings(folder=tmp_path, delay=0)
    gate, begun = threading.Event(), threading.Event()

    def hold() -> dict[str, np.ndarray]:
        begun.set()
        assert gate.wait(10)
        return ARRAYS

    kept.keep_later("first", hold)
    assert begun.wait(10)
    for number in range(10):
        kept.keep_later(str(number), lambda: ARRAYS)
    gate.set()
    kept.flush(10)
    found = [name for name in map(str, range(10)) if kept.find(name) is not None]
    assert found == ["6", "7", "8", "9"]


# ------------------------------------------------------------ with a predictor


def torch_predictor(model_id: str = "model/cpu") -> Predictor:
    runtime = TorchRuntime(efficient_model(), torch.device("cpu"))
    return Predictor(runtime, name="small", model_id=model_id)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return torch_predictor()


def encodings(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count, in the list, how often the model encodes."""
    runtime: Any = predictor._runtime
    encode, counted = runtime.encode, []

    def counting(rgb: np.ndarray) -> Any:
        counted.append(1)
        return encode(rgb)

    monkeypatch.setattr(runtime, "encode", counting)
    return counted


def test_an_image_is_encoded_once_also_for_another_session(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = encodings(predictor, monkeypatch)
    monkeypatch.setattr(predictor, "kept", kept)
    image = noise()
    fresh = predictor.encode(image)
    kept.flush(30)
    monkeypatch.setattr(predictor, "kept", KeptEmbeddings(folder=kept.files.folder))
    found = predictor.encode(image)
    assert len(counted) == 1
    assert (found.original_size, found.input_size) == ((60, 100), fresh.input_size)
    assert found.nbytes == fresh.nbytes
    assert fresh.maps is not None
    assert found.maps is not None
    assert found.maps.dtype == np.float32
    np.testing.assert_allclose(found.maps, fresh.maps, atol=5e-4)
    np.testing.assert_array_equal(found.regions, fresh.regions)
    runtime = predictor._runtime
    assert isinstance(runtime, KeepsFeatures)
    assert_same(runtime.arrays_of(found.features), runtime.arrays_of(fresh.features))


def test_the_size_of_the_image_is_its_own(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees the same of an image and of its enlargement, where all is one colour."""
    counted = encodings(predictor, monkeypatch)
    monkeypatch.setattr(predictor, "kept", kept)
    predictor.encode(np.full((30, 50, 3), 7, np.uint8))
    kept.flush(30)
    found = predictor.encode(np.full((60, 100, 3), 7, np.uint8))
    assert len(counted) == 1
    assert found.original_size == (60, 100)


def test_other_contrast_and_other_models_are_other_entries(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = encodings(predictor, monkeypatch)
    monkeypatch.setattr(predictor, "kept", kept)
    gray = noise()[..., 0].astype(np.uint16) * 9
    predictor.encode(gray)
    predictor.encode(gray, contrast_limits=(0, 500))
    monkeypatch.setattr(predictor, "model_id", "model/bf16/cpu")
    predictor.encode(gray)
    kept.flush(30)
    assert len(counted) == len(kept.files) == 3


def test_arrays_of_another_version_are_made_anew(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = encodings(predictor, monkeypatch)
    monkeypatch.setattr(predictor, "kept", kept)
    monkeypatch.setattr(kept, "find", lambda _: {"features other": np.zeros(3)})
    predictor.encode(noise())
    assert len(counted) == 1
    kept.flush(30)


def test_a_runtime_that_cannot_keep_is_used_as_before(kept: KeptEmbeddings) -> None:
    plain = analytic_predictor()
    assert not isinstance(plain._runtime, KeepsFeatures)
    plain.kept = kept
    plain.encode(noise())
    kept.flush(10)
    assert len(kept.files) == 0


def test_nothing_of_the_image_is_stored(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "kept", kept)
    predictor.encode(noise())
    kept.flush(30)
    (path,) = kept.files.folder.iterdir()
    found = kept.find(path.stem)
    assert found is not None
    names = {name.removeprefix("features ") for name in found}
    assert names <= {
        *("embedding", "keys", "values", "queries", "half", "whole"),
        *("fine_half", "fine_whole", "maps", "regions"),
    }


def test_float16_where_it_holds_the_values() -> None:
    fits = np.array([1.0, -65504.0], np.float32)
    assert in_float16(fits).dtype == np.float16
    for value in (1e5, -1e5, np.nan, np.inf):
        assert in_float16(np.array([1.0, value], np.float32)).dtype == np.float32


def test_embeddings_that_are_found_belong_to_the_predictor(
    predictor: Predictor, kept: KeptEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "kept", kept)
    predictor.encode(noise())
    kept.flush(30)
    found = predictor.encode(noise())
    with pytest.raises(ValueError, match="another model"):
        predictor.predict(
            replace(found, model_id="other"), Prompts(boxes=np.array([[1, 1, 9, 9]]))
        )
