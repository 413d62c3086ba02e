"""Pack everything that a training elsewhere needs into one folder of limited size."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from default_model.code_copy import REPOSITORY, head
from default_model.on_gpu import bootstrap
from default_model.on_gpu.other_machine import gather_wheels
from default_model.on_gpu.packed_sets import QUALITY, PackedImage, write_packed
from default_model.state import RefusedError
from napari_tinysam import checkpoints
from napari_tinysam.files.atomic import unfinished
from tinysam_training.data.dataset import read_source
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.recipe import recipe_from
from tinysam_training.run.starting import starting_model, thresholds_of

if TYPE_CHECKING:
    from default_model.on_gpu.packed_sets import Encoding
    from tinysam_training.recipe import DataSource, Recipe

Say = Callable[[str], None]

#: The command to run in the folder above the pack; {pack} is the pack's name.
COMMAND = 'PYTHONUNBUFFERED=1 python3 {pack}/run.py "$OUT"'

#: How images are packed if they do not fit without loss.
_NEAR = f"WebP (gray) and JPEG (colours, 4:4:4) of quality {QUALITY}"

#: Bytes reserved for the index of each set and the manifest.
_SPARE = 2**18


@dataclass(frozen=True)
class PackOrder:
    """What to pack.

    Attributes
    ----------
    recipe : dict
        Plain values, as from `gpu_recipe`.
    data : Path
        The data root.
    folder : Path
        Replaced.
    minutes : float
        For the whole command.
    start : str
        Name or file of the weights to start from; if empty, as in the recipe.
    wheels : str
        See `gather_wheels`.
    limit : int
        Bytes of the whole folder.
    """

    recipe: Mapping[str, Any]
    data: Path
    folder: Path
    minutes: float = 8.5
    start: str = ""
    wheels: str = "download"
    limit: int = 60 * 2**20


@dataclass(eq=False)
class _Set:
    """A source's images, encoded."""

    source: DataSource
    images: list[PackedImage] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(image.size for image in self.images)


#: Batches on a GPU: side, number of windows, and how often. Each side costs 20 seconds, in which
#: the GPU prepares its convolutions.
_WINDOWS = [[256, 96, 0.5], [512, 24, 0.5]]

#: Highest learning rate, with weights to start from and without.
_RATES = {True: 1e-3, False: 2e-3}


def gpu_recipe(
    content: Mapping[str, Any], minutes: float, *, started: bool
) -> dict[str, Any]:
    """Derive a recipe for a GPU: the same stages with larger batches, for some minutes.

    Parameters
    ----------
    content : mapping
        Plain values of the recipe for a CPU.
    minutes : float
    started : bool
        Whether the run starts from trained weights.
    """
    stages = []
    for stage in content.get("stages", [{}]):
        changed = {**stage, "windows": _WINDOWS}
        if stage.get("objects") != 0:
            changed |= {"objects": 6, "rounds": 3}
        stages.append(changed)
    optimizer = {"weight_decay": 0.05, "ema": 0.998, "learning_rate": _RATES[started]}
    return {
        **content,
        "stages": stages,
        "optimizer": {**content.get("optimizer", {}), **optimizer},
        "judging": {"images": 12, "objects": 4, "every": 1.0},
        "checkpoint_minutes": 60,  # deliveries every two minutes replace them
        "steps": 0,
        "minutes": minutes,
    }


def prepare(asked: PackOrder, say: Say) -> str:
    """Pack, and return the command to run.

    Raises
    ------
    RefusedError
        If the pack does not fit, or something is missing.
    DataError, CheckpointError
        If data or weights cannot be used.
    """
    recipe = recipe_from(dict(asked.recipe))
    if not asked.data.is_dir():
        raise RefusedError(f"There is no data: {asked.data} is not a folder.")
    known = asked.folder / "manifest.json"
    if asked.folder.exists() and any(asked.folder.iterdir()) and not known.exists():
        raise RefusedError(f"{asked.folder} is not a pack, so it is not replaced.")
    with unfinished(asked.folder, lambda _: False) as pack:
        _fill(pack, asked, recipe, say)
    return COMMAND.format(pack=asked.folder.name)


def _fill(pack: Path, asked: PackOrder, recipe: Recipe, say: Say) -> None:
    (pack / "sets").mkdir(parents=True)
    gather_wheels(asked.wheels, pack / "wheels")
    _pack_code(pack / "code.tar.xz")
    shutil.copyfile(bootstrap.__file__, pack / "run.py")
    _pack_start(asked, recipe, pack / "start.safetensors")
    taken = sum(file.stat().st_size for file in _files(pack))
    say(f"wheels, code and start: {taken / 2**20:.1f} MiB")
    encoding, sets = _fitting(recipe, asked.data, asked.limit - taken - _SPARE, say)

    packed: dict[str, list[dict[str, Any]]] = {"data": [], "validation": []}
    counts = {}
    for number, (kind, each) in enumerate(sets):
        name = f"sets/{number:02d}.zip"
        write_packed(pack / name, each.images)
        counts[name] = [kind, each.source.path, len(each.images), each.size]
        entry: dict[str, Any] = {
            "kind": "packed",
            "path": name,
            "share": each.source.share,
        }
        if each.source.complete is not None:
            entry["complete"] = each.source.complete
        packed[kind].append({**entry, "origin": each.source.origin})
    # Architecture and dense prompts stay; the start has everything else of the model.
    model = {**asked.recipe.get("model", {}), "start": "start.safetensors"}
    model.pop("imagenet", None)
    written = {**asked.recipe, **packed, "model": model}
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
    (pack / "recipe.yaml").write_text(text, "utf-8")
    manifest = {
        "commit": _commit(),
        "minutes": asked.minutes,
        "images": "lossless" if encoding == "lossless" else _NEAR,
        "sets": counts,
        "files": {
            str(file.relative_to(pack)): {
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "size": file.stat().st_size,
            }
            for file in _files(pack)
        },
    }
    (pack / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")
    size = sum(file.stat().st_size for file in _files(pack))
    say(f"{asked.folder}: {size / 2**20:.1f} MiB, images {manifest['images']}")
    if size > asked.limit:
        raise RefusedError(f"The pack has {size:,} bytes, more than {asked.limit:,}.")


def _files(pack: Path) -> list[Path]:
    return sorted(file for file in pack.rglob("*") if file.is_file())


def _commit() -> str:
    try:
        return head()
    except RefusedError:
        return "unknown"


def _pack_code(path: Path) -> None:
    """Pack the modules that a training imports, as they are in the tree."""
    training = REPOSITORY / "training"
    roots = (
        REPOSITORY / "src",
        training / "tinysam_training",
        training / "default_model",
    )
    with tarfile.open(path, "w:xz") as archive:
        for root in roots:
            for file in sorted(root.rglob("*.py")):
                archive.add(file, str(file.relative_to(REPOSITORY)))


def _pack_start(asked: PackOrder, recipe: Recipe, path: Path) -> None:
    settings = recipe.model
    torch.manual_seed(recipe.seed)
    start = asked.start or settings.start
    model = starting_model(
        start,
        architecture=settings.architecture,
        decoder=settings.decoder,
        object_head=settings.object_head,
        details=settings.details,
        dense_prompts=settings.dense_prompts,
        imagenet=settings.imagenet and not asked.start,
    )
    checkpoints.save(model.eval(), path, thresholds_of(start), half=True)


def _fitting(
    recipe: Recipe, root: Path, room: int, say: Say
) -> tuple[Encoding, list[tuple[str, _Set]]]:
    """Encode all sets as well as they fit; leave images out if they do not fit at all."""
    sources = [("data", one) for one in recipe.data]
    sources += [("validation", one) for one in recipe.validation]
    sets = _encoded(sources, root, "lossless", room, say)
    if sets is not None:
        return "lossless", sets
    say(f"Images do not fit without loss; they become {_NEAR}.")
    sets = _encoded(sources, root, "near", None, say)
    assert sets is not None
    _leave_out(
        [one for kind, one in sets if kind == "data"],
        room - sum(one.size for kind, one in sets if kind != "data"),
        say,
    )
    return "near", sets


def _encoded(
    sources: Sequence[tuple[str, DataSource]],
    root: Path,
    encoding: Encoding,
    room: int | None,
    say: Say,
) -> list[tuple[str, _Set]] | None:
    """Encode sets; None as soon as they do not fit."""
    made, size = [], 0
    for kind, source in sources:
        one = _Set(source)
        for entry in read_source(source, root):
            one.images.append(PackedImage.of(entry.read(), encoding))
            size += one.images[-1].size
            if room is not None and size > room:
                return None
        say(f"{kind}, {source.path}: {len(one.images)} images, {one.size / 1e6:.2f} MB")
        made.append((kind, one))
    return made


def _leave_out(sets: Sequence[_Set], room: int, say: Say) -> None:
    """Leave images out evenly, so that the size of a set follows its share of the windows."""
    before = [list(each.images) for each in sets]
    low, high = 0.0, float(max(each.size / each.source.share for each in sets))
    if sum(each.size for each in sets) <= room:
        return
    for _ in range(30):
        worth = (low + high) / 2
        for each, images in zip(sets, before, strict=True):
            size = sum(image.size for image in images)
            part = min(1.0, worth * each.source.share / size)
            each.images = evenly_spaced(images, max(int(part * len(images)), 1))
        if sum(each.size for each in sets) <= room:
            low, kept = worth, [each.images for each in sets]
        else:
            high = worth
    if not low:
        raise RefusedError("The images do not fit, not even a few of them.")
    for each, images, of in zip(sets, kept, before, strict=True):
        each.images = images
        if len(images) < len(of):
            say(f"{each.source.path}: {len(images)} of {len(of)} images fit")
