"""Files of weights: which are read, which are refused and why, and how they are written."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from napari_tinysam import checkpoints
from napari_tinysam.checkpoints import REGISTRY, load, read, save
from napari_tinysam.errors import CheckpointError
from napari_tinysam.model import to_official
from official_models import build_official_tiny, official_tiny_weights, save_official

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_tinysam.model import SegmentAnything


@pytest.fixture(scope="module")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the published ones; not to be changed."""
    return save_official(tmp_path_factory.mktemp("weights") / "tinysam.pth")


@pytest.fixture(scope="module")
def model(official_file: Path) -> SegmentAnything:
    """Not to be changed."""
    return load(official_file).model


def hollow(
    dtype: torch.dtype = torch.float32, **changes: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Official names and shapes with one value a tensor: a file of kilobytes.

    Tensors can be changed, or removed by None.
    """
    weights: dict[str, torch.Tensor | None] = {}
    for index, (name, tensor) in enumerate(official_tiny_weights().items()):
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        value = torch.tensor(index % 32, dtype=wanted)
        weights[name] = value.expand(tensor.shape)
    weights.update(changes)
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


def assert_holds(model: SegmentAnything, weights: Mapping[str, torch.Tensor]) -> None:
    found = to_official(model.state_dict())
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def refused(path: Path) -> str:
    """Return the message with which a file is refused; nothing may change beside it."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert path.name in message
    return message


# ------------------------------------------------------------------ what is read


def test_an_official_file_is_loaded(official_file: Path) -> None:
    loaded = load(official_file)
    assert_holds(loaded.model, official_tiny_weights())
    assert loaded.model.architecture == "tiny_vit"
    assert not loaded.model.training
    assert loaded.name == "tinysam.pth"
    assert loaded.path == official_file
    floats = (p for p in loaded.model.state_dict().values() if p.is_floating_point())
    assert {p.dtype for p in floats} == {torch.float32}


def test_a_file_mapped_into_memory_is_loaded_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_MAP_ABOVE_BYTES", 1000)
    path = tmp_path / "mapped.pth"
    torch.save(hollow(), path)
    loaded = load(path)
    path.write_bytes(bytes(path.stat().st_size))  # the model must not see this
    assert_holds(loaded.model, hollow())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(hollow(dtype), path)
    model = load(path).model
    assert_holds(model, hollow())
    floats = (p for p in model.state_dict().values() if p.is_floating_point())
    assert {p.dtype for p in floats} == {torch.float32}


def test_content_counts_and_not_the_suffix(
    model: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_MAP_ABOVE_BYTES", 1000)
    disguised = tmp_path / "weights.safetensors"
    torch.save(hollow(), disguised)
    assert_holds(load(disguised).model, hollow())
    save(model, tmp_path / "really.safetensors")
    disguised = (tmp_path / "really.safetensors").rename(tmp_path / "weights.pth")
    assert_holds(load(disguised).model, official_tiny_weights())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"model": weights, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda weights: {"state_dict": weights},
        lambda weights: {"model_state": {f"sam.{k}": v for k, v in weights.items()}},
        lambda weights: {f"module.{k}": v for k, v in weights.items()},
        lambda weights: {**weights, "pixel_mean": torch.zeros(3, 1, 1), "epoch": 3},
        lambda weights: {**weights, "object_head.0.weight": torch.zeros(3)},
    ],
    ids=["model", "state_dict", "sam.", "module.", "extra entries", "object head"],
)
def test_common_wrappings_are_taken_off(
    wrap: Callable[[dict[str, torch.Tensor]], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "wrapped.pth"
    torch.save(wrap(hollow()), path)
    assert_holds(load(path).model, hollow())


def test_what_is_never_used_may_be_missing(tmp_path: Path) -> None:
    weights = {
        name: tensor
        for name, tensor in hollow().items()
        if not name.startswith(("image_encoder.head.", "image_encoder.norm_head."))
        and not name.endswith("num_batches_tracked")
    }
    path = tmp_path / "small.pth"
    torch.save(weights, path)
    found = to_official(load(path).model.state_dict())
    assert set(found) == set(official_tiny_weights())
    for name, tensor in found.items():
        assert torch.equal(tensor, weights.get(name, torch.zeros_like(tensor)))


def test_a_file_saved_on_a_gpu_is_loaded_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cuda.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(hollow(), path)
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        assert b"cuda:0" in archive.read(pickled)
    assert_holds(load(path).model, hollow())


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first, same, other = (
        tmp_path / f"{name}.pth" for name in ("first", "same", "other")
    )
    torch.save(hollow(), first)
    same.write_bytes(first.read_bytes())
    torch.save(hollow(**{"image_encoder.neck.1.bias": torch.zeros(256)}), other)
    fingerprint = load(first).fingerprint
    assert load(same).fingerprint == fingerprint
    assert load(other).fingerprint != fingerprint
    assert len(fingerprint) == 16


# ------------------------------------------------------------------ what is refused


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["torch", "old torch", "pickle", "in a state dict"])
def test_nothing_is_ever_unpickled(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trap = tmp_path / "unpickled"
    path = tmp_path / "malicious.pth"
    if kind == "torch":
        torch.save(Malicious(trap), path)
    elif kind == "old torch":
        torch.save(Malicious(trap), path, _use_new_zipfile_serialization=False)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious(trap)))
    else:
        torch.save({"a": torch.zeros(1), "b": Malicious(trap)}, path)
    message = refused(path)
    assert "pickle" in message
    assert ".safetensors" in message
    assert not trap.exists()
    if kind != "old torch":  # or the trap would prove nothing
        pickle.loads(pickle.dumps(Malicious(trap)))
        assert trap.exists()


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tinysam_w8a8.pth"
    torch.save(nn.Sequential(nn.Linear(2, 2)), path)
    message = refused(path)
    assert "pickled Python objects (torch.nn.modules.container.Sequential)" in message
    assert "Accepted are" in message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"\n <HTML>\n", "a web page"),
        (b"Not Found", "a text file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12",
            "Git LFS pointer",
        ),
        (bytes(range(200, 256)) * 20, "a file of an unknown kind"),
        (b"PK\x03\x04" + bytes(300), "damaged or incomplete"),
        (b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":1} ', "damaged or incomplete"),
    ],
)
def test_other_files_are_named(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    message = refused(path)
    assert what in message
    assert "Accepted are .safetensors files and PyTorch weight files" in message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused(
    model: SegmentAnything, suffix: str, tmp_path: Path
) -> None:
    whole = tmp_path / f"whole{suffix}"
    save(model, whole, half=True)
    content = whole.read_bytes()
    for part in (0.0001, 0.5, 0.999):
        path = tmp_path / f"part{suffix}"
        path.write_bytes(content[: int(len(content) * part)])
        assert "damaged or incomplete" in refused(path)


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    torch.save(hollow(), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content[: len(content) // 2]
            target.writestr(entry.filename, content)
    assert "damaged or incomplete" in refused(path)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "a zip file without weights" in refused(path)
    path = tmp_path / "script.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/data.pkl", "")
        archive.writestr("script/constants.pkl", "")
    assert "a TorchScript program" in refused(path)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    assert "is a folder" in refused(folder)
    assert "There is no file" in refused(tmp_path / "missing.pth")


def test_a_name_that_is_neither_model_nor_file_lists_the_models() -> None:
    with pytest.raises(
        CheckpointError, match=r"'tinysan'.*default, default-int8, tinysam, mobile_sam"
    ):
        load("tinysan")


NECK = "image_encoder.neck.0.weight"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({NECK: None}, f"missing 1 ({NECK})"),
        (
            {"mask_decoder.hf_token.weight": torch.zeros(1, 256)},
            "unknown 1 (mask_decoder.hf",
        ),
        (
            {NECK: torch.zeros(256, 64, 1, 1)},
            "(256, 64, 1, 1) float instead of (256, 320",
        ),
        (
            {NECK: torch.zeros(256, 320, 1, 1, dtype=torch.int8)},
            "torch.int8 instead of",
        ),
        ({NECK: torch.zeros(256, 320, 1, 1, device="meta")}, "without values"),
        ({NECK: torch.zeros(256, 320, 1, 1).to_sparse()}, "Accepted are"),
        ({NECK: torch.full((256, 320, 1, 1), torch.nan)}, "not numbers"),
        (
            {NECK: torch.full((256, 320, 1, 1), 1e300, dtype=torch.float64)},
            "not numbers",
        ),
        ({"teacher.image_encoder.x": torch.zeros(1)}, "more than one model"),
        ({"other.weight": torch.zeros(1)}, "unknown 1 (other.weight)"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, torch.Tensor | None], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(hollow(**changes), path)
    assert what in refused(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            {"layer1.weight": torch.zeros(1)},
            "no Segment Anything model, but layer1.weight",
        ),
        ({}, "no Segment Anything model, but nothing"),
        ([1, 2], "no Segment Anything model, but list"),
        (torch.zeros(3), "no Segment Anything model, but Tensor"),
        ({1: torch.zeros(1)}, "no Segment Anything model, but 1"),
        ({"model": {"model": {"model": {}}}}, "no Segment Anything model, but model"),
        (
            {"image_encoder.blocks.0": torch.zeros(1)},
            "an image encoder that is not known",
        ),
        (
            {"image_encoder.pos_embed": torch.zeros(1).expand(1, 64, 64, 1280)},
            "not a whole vit_h model; tensors missing",
        ),
        (
            {"image_encoder.pos_embed": torch.zeros(1).expand(1, 64, 64, 1024)},
            "not a whole vit_l model; tensors missing",
        ),
    ],
)
def test_weights_of_other_models_are_named(
    content: object, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert what in refused(path)


# ------------------------------------------------------------------ what is written


@pytest.mark.parametrize("name", ["saved.pt", "saved.safetensors"])
def test_a_saved_model_loads_again(
    model: SegmentAnything, name: str, tmp_path: Path
) -> None:
    save(model, tmp_path / name, {"recipe": "none"})
    assert_holds(load(tmp_path / name).model, official_tiny_weights())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    umask = os.umask(0)
    os.umask(umask)
    if os.name == "posix":  # others of the laboratory may read it, as any new file
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_official_code_reads_what_is_saved(
    model: SegmentAnything, tmp_path: Path
) -> None:
    path = tmp_path / "saved.pth"
    save(model, path)
    state_dict = torch.load(path, weights_only=True)  # how the official code does it
    assert len(state_dict) == 439
    official = build_official_tiny()
    official.load_state_dict(state_dict, strict=True)
    expected = official_tiny_weights()
    for name, tensor in official.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_half_precision_and_notes(model: SegmentAnything, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(model, path, {"recipe": "first", "data": "nuclei"}, half=True)
    assert path.stat().st_size < 21e6
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    assert (notes["recipe"], notes["data"]) == ("first", "nuclei")
    found = to_official(load(path).model.state_dict())
    for name, tensor in official_tiny_weights().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(found[name], expected)


def test_a_model_in_another_layout_and_precision_is_saved_the_same(
    model: SegmentAnything, tmp_path: Path
) -> None:
    moved = copy.deepcopy(model).to(torch.float64, memory_format=torch.channels_last)
    save(moved, tmp_path / "saved.safetensors")
    assert_holds(load(tmp_path / "saved.safetensors").model, official_tiny_weights())


def test_a_failed_save_leaves_the_old_file(
    model: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "saved.pth"
    path.write_bytes(b"old")

    def break_off(weights: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(CheckpointError, match="No space left"):
        save(model, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_models_that_cannot_be_saved(model: SegmentAnything, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"\.safetensors or \.pth, not as 'a\.txt'"
    ):
        save(model, tmp_path / "a.txt")
    with pytest.raises(CheckpointError, match="cannot be saved"):
        save(model, tmp_path / "missing" / "a.pth")
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.image_encoder.neck[1].bias[0] = 1e6  # too large for 16 bits
    with pytest.raises(CheckpointError, match=r"image_encoder\.neck\.1\.bias"):
        save(broken, tmp_path / "a.pth", half=True)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ the registry


def test_the_registry_says_what_users_choose_by() -> None:
    assert list(REGISTRY) == [
        "default",
        "default-int8",
        "tinysam",
        "mobile_sam",
        "sam_vit_b",
        "sam_vit_l",
        "sam_vit_h",
    ]
    for name, checkpoint in REGISTRY.items():
        assert checkpoint.name == name
        assert checkpoint.title
        assert checkpoint.description
        assert checkpoint.licence
        assert checkpoint.training_data
        if name.startswith("default"):
            assert checkpoint.url is None
            continue
        assert checkpoint.url is not None
        assert checkpoint.url.startswith("https://")
        assert checkpoint.url.endswith("/" + checkpoint.filename)
        if name != "tinysam":  # its authors publish no hash
            assert checkpoint.sha256 is not None
            assert len(bytes.fromhex(checkpoint.sha256)) == 32
            assert checkpoint.size is not None


def test_the_bundled_model_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.checkpoints import registry

    (tmp_path / "weights").mkdir()
    bundled = tmp_path / "weights" / "default.safetensors"
    monkeypatch.setattr(registry.importlib.resources, "files", lambda name: tmp_path)
    assert not checkpoints.is_available_offline("default")
    with pytest.raises(CheckpointError, match=r"default\.safetensors is missing"):
        load()
    torch.save(hollow(), bundled)
    assert checkpoints.is_available_offline("default")
    loaded = load()
    assert (loaded.name, loaded.path) == ("default", bundled)


def test_the_registry_is_read_without_torch() -> None:
    program = (
        "import sys, napari_tinysam.checkpoints as c; c.is_available_offline('tinysam'); "
        "c.REGISTRY; sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'pooch')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
