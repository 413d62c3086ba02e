"""Stored embeddings: named by what they depend on, whole or not there, continued if interrupted."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch.utils.data import DataLoader, Dataset

from napari_tinysam.errors import DataError
from tinysam_training.data.frame_batches import EmbeddedFrame
from tinysam_training.data.turns import TURNS
from tinysam_training.distill import embedding_cache
from tinysam_training.distill.embedding_cache import EMBEDDING_BYTES, EmbeddingCache
from tinysam_training.labelled_image import LabelledImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CELLS = 4


class StubTeacher:
    """Embeds an image as its mean colour and first pixel, and counts."""

    def __init__(self, fingerprint: str = "0123456789abcdef") -> None:
        self.fingerprint = fingerprint
        self.embedded: list[np.ndarray] = []
        self.batches: list[int] = []

    def embed(self, images: Sequence[np.ndarray], batch: int = 1) -> torch.Tensor:
        self.embedded += list(images)
        self.batches.append(len(images))
        return torch.stack([embedding_of(rgb) for rgb in images])


def embedding_of(rgb: np.ndarray) -> torch.Tensor:
    values = np.concatenate([rgb.mean((0, 1)), rgb[0, 0]])  # (6,)
    tiled = np.resize(values, (256, CELLS, CELLS))
    return torch.from_numpy(tiled).half()


def labelled(number: int) -> LabelledImage:
    rgb = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return LabelledImage(f"image {number}", "set", rgb, np.zeros((1, 5, 7), np.int32))


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache")


def contents(cache: EmbeddingCache) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache.folder)): path.read_bytes()
        for path in cache.folder.rglob("*")
        if path.is_file()
    }


# ------------------------------------------------------------------------- one entry


def test_what_is_put_is_what_one_gets(cache: EmbeddingCache) -> None:
    embedding = torch.randn(256, 64, 64, generator=torch.Generator().manual_seed(0))
    key = EmbeddingCache.key(labelled(0).rgb, "identity", "teacher")
    assert cache.get(key) is None
    assert len(cache) == 0
    cache.put(key, embedding)
    found = cache.get(key)
    assert found is not None
    assert found.dtype == torch.float16
    assert torch.equal(found, embedding.half())
    found += 1  # one's own
    assert len(cache) == 1
    assert EMBEDDING_BYTES <= cache.nbytes < EMBEDDING_BYTES + 2000
    assert EmbeddingCache(cache.folder).get(key) is not None
    again = pickle.loads(pickle.dumps(cache)).get(key)
    assert torch.equal(again, embedding.half())


def test_an_entry_is_a_safetensors_file(cache: EmbeddingCache) -> None:
    cache.put("a" * 40, torch.ones(256, CELLS, CELLS))
    (file,) = cache.folder.iterdir()
    embedding = load_file(file)["embedding"]
    assert embedding.dtype == torch.float16
    assert embedding.shape == (256, CELLS, CELLS)


def test_values_beyond_float16_are_clipped(cache: EmbeddingCache) -> None:
    embedding = torch.tensor([1e9, -1e9, 1.0]).view(3, 1, 1)
    cache.put("a" * 40, embedding)
    found = cache.get("a" * 40)
    assert found is not None
    assert found.flatten().tolist() == [65504.0, -65504.0, 1.0]
    with pytest.raises(DataError, match="finite numbers"):
        cache.put("b" * 40, embedding * torch.nan)
    assert len(cache) == 1


def test_the_key_is_of_image_turn_teacher_and_preprocessing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rgb = labelled(0).rgb
    pixel = rgb.copy()
    pixel[4, 6, 2] ^= 1
    key = EmbeddingCache.key
    keys = {
        key(rgb, "identity", "teacher"),
        key(pixel, "identity", "teacher"),
        key(rgb.reshape(7, 5, 3), "identity", "teacher"),  # the same bytes
        key(rgb, "mirrored", "teacher"),
        key(rgb, "identity", "teacher2"),
    }
    assert len(keys) == 5
    assert key(rgb.copy(order="F"), "identity", "teacher") in keys
    monkeypatch.setattr(embedding_cache, "PREPROCESSING", 2)
    assert key(rgb, "identity", "teacher") not in keys


def flip_a_bit(file: Path, place: int | None = None) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda file: flip_a_bit(file, 0),
        lambda file: flip_a_bit(file, 12),
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
        lambda file: file.write_bytes(file.read_bytes()[:20]),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(save({})),
    ],
    ids=[
        "bit",
        "length of the header",
        "header",
        "cut off",
        "half a header",
        "empty",
        "gone",
        "no tensors",
    ],
)
def test_a_damaged_entry_counts_as_missing_and_is_replaced(
    cache: EmbeddingCache, damage: Callable[[Path], object]
) -> None:
    images, teacher = [labelled(0), labelled(1)], StubTeacher()
    frames = cache.precompute(images, teacher)
    key = frames.keys[0, "identity"]
    damage(cache.folder / f"{key}.safetensors")
    assert cache.get(key) is None
    with pytest.raises(DataError, match="missing or damaged"):
        frames(EmbeddedFrame(0, "identity"))
    again = StubTeacher()
    assert cache.precompute(images, again).computed == 1
    assert np.array_equal(again.embedded[0], images[0].rgb)
    assert torch.equal(
        frames(EmbeddedFrame(0, "identity")), embedding_of(images[0].rgb)
    )
    assert len(list(cache.folder.iterdir())) == 2


def test_an_entry_that_is_there_is_left_alone(cache: EmbeddingCache) -> None:
    cache.put("a" * 40, torch.ones(1, 2, 2))
    before = contents(cache)
    cache.put("a" * 40, torch.zeros(1, 2, 2))  # as a slower process would
    assert contents(cache) == before


# ---------------------------------------------------------------------- precomputing


def test_every_turn_of_every_image_is_embedded_once(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in (0, 1, 0)]  # one of them twice
    turns, teacher = ("identity", "mirrored"), StubTeacher()
    steps: list[tuple[int, int]] = []
    frames = cache.precompute(
        images, teacher, turns, progress=lambda done, total: steps.append((done, total))
    )
    assert frames.computed == len(teacher.embedded) == len(cache) == 4
    assert steps == [(done, 6) for done in range(1, 7)]
    for number, image in enumerate(images):
        for turn in turns:
            expected = embedding_of(TURNS[turn](image.rgb))
            assert torch.equal(frames(EmbeddedFrame(number, turn)), expected)
    mirrored = frames(EmbeddedFrame(0, "mirrored"))
    assert not torch.equal(mirrored, frames(EmbeddedFrame(0, "identity")))


def test_nothing_is_computed_again(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in range(3)]
    cache.precompute(images, StubTeacher())
    before = contents(cache)
    again = StubTeacher()
    assert cache.precompute(images, again).computed == 0
    assert not again.embedded
    assert contents(cache) == before
    other = StubTeacher("another")
    assert cache.precompute(images, other).computed == 3
    assert len(cache) == 6


def test_batches_are_filled(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in range(5)]
    cache.precompute(images[1:2], StubTeacher())
    teacher, steps = StubTeacher(), []
    frames = cache.precompute(
        images, teacher, batch=3, progress=lambda done, total: steps.append(done)
    )
    assert teacher.batches == [3, 1]
    assert sorted(steps) == steps
    assert steps[-1] == 5
    for number, image in enumerate(images):
        found = frames(EmbeddedFrame(number, "identity"))
        assert torch.equal(found, embedding_of(image.rgb))


def test_what_progress_raises_ends_the_computation(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in range(4)]

    def cancel(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.precompute(images, StubTeacher(), progress=cancel)
    assert len(cache) == 2
    assert cache.precompute(images, StubTeacher()).computed == 2


def test_an_unknown_turn_is_refused(cache: EmbeddingCache) -> None:
    with pytest.raises(ValueError, match=r"'sideways'; known are identity, mirrored"):
        cache.precompute([labelled(0)], StubTeacher(), ("sideways",))


# ------------------------------------------------------------- what can go wrong


CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_embedding_cache import StubTeacher, labelled
from tinysam_training.distill.embedding_cache import EmbeddingCache

cache, way = EmbeddingCache(sys.argv[1]), sys.argv[2]
images = [labelled(number) for number in range(6)]
if way == "killed":
    write, written = Path.write_bytes, []
    def write_or_die(self, content):
        written.append(self)
        if len(written) == 4:  # half of the fourth entry
            write(self, content[:2000])
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return write(self, content)
    Path.write_bytes = write_or_die
    cache.precompute(images, StubTeacher())
else:
    Path(sys.argv[1], "ready").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    cache.precompute(images, StubTeacher())
"""


def start_child(cache: EmbeddingCache, way: str) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", CHILD, str(cache.folder), way, here]
    return subprocess.Popen(command)


def test_a_killed_computation_is_continued(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in range(6)]
    child = start_child(cache, "killed")
    assert child.wait(timeout=300) < 0 or os.name != "posix"
    assert len(cache) == 3
    (unfinished,) = cache.folder.glob(".tinysam-*")
    assert unfinished.stat().st_size == 2000
    teacher = StubTeacher()
    frames = cache.precompute(images, teacher)
    assert frames.computed == 3
    assert [rgb.tobytes() for rgb in teacher.embedded] == [
        image.rgb.tobytes() for image in images[3:]
    ]
    for number, image in enumerate(images):
        found = frames(EmbeddedFrame(number, "identity"))
        assert torch.equal(found, embedding_of(image.rgb))
    # It could be another process's until it is old enough.
    assert unfinished.exists()
    long_ago = time.time() - 3600
    os.utime(unfinished, (long_ago, long_ago))
    cache.precompute(images, teacher)
    assert not unfinished.exists()


def test_two_processes_may_compute_at_once(cache: EmbeddingCache) -> None:
    images = [labelled(number) for number in range(6)]
    child = start_child(cache, "at once")
    try:
        while not (cache.folder / "ready").exists():
            assert child.poll() is None
            time.sleep(0.01)
        (cache.folder / "go").touch()
        frames = cache.precompute(images, StubTeacher())
        assert child.wait(timeout=300) == 0
    finally:
        child.kill()
        child.wait()
    assert len(cache) == 6
    for number, image in enumerate(images):
        found = frames(EmbeddedFrame(number, "identity"))
        assert torch.equal(found, embedding_of(image.rgb))
    assert not list(cache.folder.glob(".tinysam-*"))


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [labelled(number) for number in range(4)]
    cache.precompute(images[:2], StubTeacher())
    before = contents(cache)

    def fill_up(self: Path, content: bytes) -> int:
        self.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_up)
        with pytest.raises(DataError, match="No space left on device") as caught:
            cache.precompute(images, StubTeacher())
    assert "the 2 stored ones stay usable" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(cache) == before
    assert cache.precompute(images, StubTeacher()).computed == 2


def test_too_little_space_is_said_beforehand(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, teacher = [labelled(0), labelled(1)], StubTeacher()
    free = EMBEDDING_BYTES + 5  # one of two

    def disk_usage(folder: Path) -> object:
        return type("Usage", (), {"free": free})

    monkeypatch.setattr(embedding_cache.shutil, "disk_usage", disk_usage)
    with pytest.raises(
        DataError, match=r"^2 embeddings need 4\.2 MB more in .*2\.1 MB"
    ):
        cache.precompute(images, teacher)
    assert not teacher.embedded
    cache.precompute(images[:1], teacher)
    cache.precompute(images, teacher)  # the other is there
    assert len(teacher.embedded) == 2


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be stored in .*file: "):
        EmbeddingCache(tmp_path / "file")
    with pytest.raises(DataError, match=r"cannot be stored in .*below: "):
        EmbeddingCache(tmp_path / "file" / "below")


class Stored(Dataset[torch.Tensor]):
    """Embeddings as the workers of a data loader read them."""

    def __init__(self, frames: embedding_cache.CachedFrames) -> None:
        self.frames = frames

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.frames(EmbeddedFrame(number, "identity"))

    def __len__(self) -> int:
        return len(self.frames.keys)


@pytest.mark.skipif(os.name != "posix", reason="workers are not forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_read_after_this_process_has_written(
    cache: EmbeddingCache,
) -> None:
    images = [labelled(number) for number in range(4)]
    frames = cache.precompute(images, StubTeacher())
    loader = DataLoader(
        Stored(frames),
        batch_size=2,
        num_workers=1,
        multiprocessing_context="fork",
        timeout=120,
    )
    found = torch.cat(list(loader))
    assert torch.equal(found, torch.stack([embedding_of(i.rgb) for i in images]))
