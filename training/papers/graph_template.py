"""Make the template of the graphs that OpenVINO runs, from a model of random weights.

Run as ``python -m papers.graph_template`` when the architecture of the bundled model, or what
`napari_tinysam.inference.runtime.openvino.conversion` writes, has changed.

The constants of a converted model are looked up among its weights. No two tensors of random weights
are alike, so each constant is found in one place only; the template then serves every model of the
architecture, the bundled one and those that users adapt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import zipfile
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch

from napari_tinysam.errors import DataError
from napari_tinysam.files.atomic import unfinished
from napari_tinysam.inference.runtime.openvino import store
from napari_tinysam.inference.runtime.openvino.conversion import convert
from napari_tinysam.inference.runtime.openvino.template import (
    MANIFEST,
    TEMPLATES,
    VERSION,
)
from napari_tinysam.model import SegmentAnything, to_official
from papers.narrowing import WIDTH
from papers.shared import refusals, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_tinysam.model import Architecture

#: Constants of floats with more bytes must be weights; smaller ones may be a norm's epsilon.
_MOST = 64

#: A tensor of the weights, the order of its axes, and its type in a graph.
_Place = tuple[str, tuple[int, ...], str]


def random_model(
    architecture: Architecture = "efficientnet_lite0", seed: int = 0
) -> SegmentAnything:
    """Make a model like the bundled one, every weight random and exact in 16 bits."""
    model = SegmentAnything(architecture, object_head=True, mlp_dim=WIDTH)
    model.dense_prompts = True
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.shape != model.pixel_mean.shape:
                drawn = torch.rand(tensor.shape, generator=rng) * 0.1 + 0.01
                tensor.copy_(drawn.half())
    return model.eval()


def write_template(model: SegmentAnything, path: Path) -> None:
    """Convert a model, and write its graphs without its weights.

    Parameters
    ----------
    model : SegmentAnything
        With weights that are exact in 16 bits, no two tensors alike.
    path : Path
        A zip file; replaced.

    Raises
    ------
    DataError
        If a large constant is not among the weights, or two tensors of them are alike.
    """
    weights = {
        name: each.half().numpy() if each.is_floating_point() else each.numpy()
        for name, each in to_official(model.state_dict()).items()
    }
    with tempfile.TemporaryDirectory() as temporary, unfinished(path) as unready:
        folder = Path(temporary)
        convert(model, folder)
        places = _places(weights)
        graphs = sorted(folder.glob("*.xml"))
        manifest = {
            "versions": {"manifest": VERSION, "graphs": store.FORMAT},
            "about": json.loads((folder / "about.json").read_text("utf-8")),
            "tensors": {name: each.shape for name, each in weights.items()},
            "constants": {graph.stem: _constants(graph, places) for graph in graphs},
        }
        with zipfile.ZipFile(unready, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as to:
            _put(to, MANIFEST, json.dumps(manifest, separators=(",", ":")))
            for graph in graphs:
                _put(to, graph.name, graph.read_text("utf-8"))


def _put(archive: zipfile.ZipFile, name: str, content: str) -> None:
    """Without the time of day, so that the same template is the same file."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _places(weights: Mapping[str, npt.NDArray[Any]]) -> dict[bytes, _Place]:
    """Map the bytes of each tensor, in each order of its axes and both types, to where it is."""
    found: dict[bytes, _Place] = {}
    for name, tensor in weights.items():
        if tensor.dtype.kind != "f":
            continue
        # Axes of one element only change the order's name: the plain one comes first.
        for axes in itertools.permutations(range(tensor.ndim)):
            for kind in ("<f2", "<f4"):
                content = tensor.transpose(axes).astype(kind).tobytes()
                known = found.setdefault(content, (name, axes, kind))
                if known[0] != name:
                    raise DataError(f"{name} and {known[0]} are alike.")
    return found


def _constants(graph: Path, places: Mapping[bytes, _Place]) -> dict[str, Any]:
    """Say what is in the file beside a graph."""
    content = graph.with_suffix(".bin").read_bytes()
    tensors: list[tuple[int, str, tuple[int, ...], str]] = []
    covered = np.zeros(len(content), bool)
    for layer in ElementTree.parse(graph).getroot().iter("layer"):
        if layer.get("type") != "Const":
            continue
        data = layer.find("data")
        assert data is not None
        offset, size = int(data.attrib["offset"]), int(data.attrib["size"])
        floats = data.attrib["element_type"] in ("f16", "f32")
        if not floats or covered[offset : offset + size].any():
            continue
        place = places.get(content[offset : offset + size])
        if place is not None:
            tensors.append((offset, *place))
            covered[offset : offset + size] = True
        elif size > _MOST:
            raise DataError(f"{layer.get('name')} of {graph.name} is not a weight.")
    return {"size": len(content), "tensors": tensors, "rest": _rest(content, covered)}


def _rest(content: bytes, covered: npt.NDArray[np.bool_]) -> list[tuple[int, str]]:
    """Return the bytes that no tensor covers, in pieces that begin at an offset."""
    edges = np.flatnonzero(np.diff(np.r_[True, covered, True].astype(np.int8)))
    pieces = [(int(a), content[a:b]) for a, b in edges.reshape(-1, 2)]
    return [(a, b64encode(piece).decode()) for a, piece in pieces if any(piece)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=TEMPLATES)
    arguments = parser.parse_args()
    with refusals():
        model = random_model()
        arguments.output.mkdir(parents=True, exist_ok=True)
        path = arguments.output / f"{model.architecture}.zip"
        write_template(model, path)
        say(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
