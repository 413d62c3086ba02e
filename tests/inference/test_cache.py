"""Embeddings in memory, up to a number of bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from napari_tinysam import Embedding
from napari_tinysam.inference import cache
from napari_tinysam.inference.cache import RecentEmbeddings, suitable_capacity


def embedding(size: int) -> Embedding:
    return Embedding(np.zeros(size, np.uint8), (10, 10), (10, 10), 1024, "model")


def test_bytes_of_an_embedding_are_those_of_its_arrays() -> None:
    maps, regions = np.zeros((3, 4, 4), np.float32), np.zeros((8, 8), np.int32)
    features = np.zeros(100, np.uint8)
    whole = Embedding(features, (9, 9), (9, 9), 64, "model", maps, regions)
    assert whole.nbytes == 100 + 192 + 256
    assert Embedding(1.5, (9, 9), (9, 9), 64, "model").nbytes == 0


def test_what_was_not_used_for_longest_goes_first() -> None:
    recent = RecentEmbeddings(100)
    for name in "abcd":
        recent.put(name, embedding(25))
    assert recent.get("a") is not None
    recent.put("e", embedding(30))
    assert [name for name in "abcde" if name in recent] == ["a", "d", "e"]
    assert recent.nbytes == 80
    assert len(recent) == 3
    assert recent.get("b") is None
    recent.clear()
    assert (len(recent), recent.nbytes) == (0, 0)


def test_replacing_counts_once() -> None:
    recent = RecentEmbeddings(100)
    recent.put("a", embedding(25))
    recent.put("a", embedding(60))
    assert recent.nbytes == 60
    recent.put("b", embedding(40))
    assert len(recent) == 2


def test_the_last_one_stays_whatever_its_size() -> None:
    recent = RecentEmbeddings(0)
    recent.put("a", embedding(25))
    recent.put("b", embedding(1000))
    assert [name for name in "ab" if name in recent] == ["b"]


def test_a_smaller_capacity_takes_effect_at_once() -> None:
    recent = RecentEmbeddings(100)
    for name in "abcd":
        recent.put(name, embedding(25))
    recent.capacity = 50
    assert [name for name in "abcd" if name in recent] == ["c", "d"]


def test_a_small_machine_holds_less(monkeypatch) -> None:
    monkeypatch.setattr(cache, "_machine_memory", lambda: 4_000)
    assert suitable_capacity(5_000) == 1_000
    assert suitable_capacity(500) == 500
    monkeypatch.setattr(cache, "_machine_memory", lambda: None)
    assert suitable_capacity(5_000) == 5_000


def test_threads_keep_count() -> None:
    recent = RecentEmbeddings(200)

    def use(number: int) -> None:
        recent.put(number % 17, embedding(1 + number % 50))
        recent.get((number * 7) % 17)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(2000)))
    held = [recent.get(number) for number in range(17)]
    assert recent.nbytes == sum(each.nbytes for each in held if each is not None) <= 200
