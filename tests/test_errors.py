"""Sentences made of exceptions."""

from __future__ import annotations

import pytest
import torch

from napari_tinysam.errors import (
    FileError,
    TinySAMError,
    UsageError,
    explained,
    is_about_memory,
    sentence,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileError("a.tif is empty."), "a.tif is empty."),
        (ValueError("no such mode"), "no such mode."),
        (ValueError("Is it there?"), "Is it there?"),
        (ValueError(), "ValueError."),
        (
            OSError(28, "No space left on device", "a.tif"),
            "a.tif: No space left on device.",
        ),
        (OSError("not regular"), "not regular."),
        (MemoryError(), "There is not enough memory."),
        (torch.OutOfMemoryError("CUDA"), "There is not enough memory."),
        (RuntimeError("can't allocate memory: 9 bytes"), "There is not enough memory."),
        (RuntimeError("size mismatch\n  at x.cpp"), "size mismatch."),
        (
            RuntimeError("Check failed at x.cpp:1:\nunknown layer\nmore"),
            "Check failed at x.cpp:1: unknown layer.",
        ),
        (RuntimeError("Nothing follows:"), "Nothing follows."),
    ],
)
def test_any_exception_becomes_a_sentence(error: Exception, expected: str) -> None:
    assert sentence(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "tmp"), "No space left on device."),
        (MemoryError(), "there is not enough memory."),
        (FileError("It is empty."), "It is empty."),
    ],
)
def test_it_may_say_what_failed(error: Exception, expected: str) -> None:
    assert (
        sentence(error, "a.tif cannot be read") == f"a.tif cannot be read: {expected}"
    )


def test_other_runtime_errors_are_not_about_memory() -> None:
    assert not is_about_memory(RuntimeError("size mismatch"))
    assert not is_about_memory(ValueError("can't allocate memory"))


def test_expected_errors_are_explained_and_own_ones_pass() -> None:
    with (
        pytest.raises(TinySAMError, match=r"^It stopped: wrong\.$"),
        explained("It stopped"),
    ):
        raise ValueError("wrong")
    with pytest.raises(UsageError, match=r"^no\.$"), explained("It stopped"):
        raise UsageError("no.")
    with pytest.raises(KeyError), explained():  # a defect
        raise KeyError("a")
