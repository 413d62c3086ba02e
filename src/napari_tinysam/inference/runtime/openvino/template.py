"""Graphs straight from a file of weights, without torch: a template, with the weights filled in.

Every large constant of the graphs is a tensor of the file, as it is or transposed. A template holds
the graphs of an architecture, and says which tensor goes where. Importing torch and tracing the
model take four of the six seconds of the very first start; this takes a fifth of a second.
Templates are made by `papers.graph_template`. A model that fits none is converted with torch.
"""

from __future__ import annotations

import json
import zipfile
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.checkpoints.sniff import DENSE_PROMPTS
from napari_tinysam.inference.runtime.openvino.arrays import arrays_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

#: The templates of this package.
TEMPLATES = Path(__file__).with_name("templates")

#: The entry of a template that says what goes where; the others are graphs.
MANIFEST = "manifest.json"

#: Changes with the templates' manifest.
VERSION = 1

_REFINER = "mask_decoder.refiner."


@dataclass(frozen=True, eq=False)
class FilledTemplate:
    """A template and the weights that go into it.

    Attributes
    ----------
    path : Path
        Of the template.
    manifest : dict
        Its entry `MANIFEST`.
    tensors : mapping of str to numpy.ndarray
        The model's weights by official names.
    """

    path: Path
    manifest: Mapping[str, Any]
    tensors: Mapping[str, npt.NDArray[np.floating]]

    def write(self, folder: Path) -> None:
        """Write what `conversion.convert` writes.

        Parameters
        ----------
        folder : Path
            An empty folder.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with zipfile.ZipFile(self.path) as template:
            for graph, constants in self.manifest["constants"].items():
                content = bytearray(constants["size"])
                for offset, name, axes, kind in constants["tensors"]:
                    part = self.tensors[name].transpose(axes).astype(kind).tobytes()
                    content[offset : offset + len(part)] = part
                for offset, given in constants["rest"]:
                    part = b64decode(given)
                    content[offset : offset + len(part)] = part
                (folder / f"{graph}.bin").write_bytes(content)
                (folder / f"{graph}.xml").write_bytes(template.read(f"{graph}.xml"))
        about = self.manifest["about"]
        arrays: dict[str, Any] = dict(arrays_of(self.tensors, about["image_size"]))
        np.savez(folder / "arrays.npz", **arrays)
        (folder / "about.json").write_text(json.dumps(about), "utf-8")


def fitting_template(weights: Path, *, version: int) -> FilledTemplate | None:
    """Find the template that a model fits.

    Only the names and shapes of a model that fits none are read.

    Parameters
    ----------
    weights : Path
        A file of weights.
    version : int
        Of the graphs (`napari_tinysam.inference.runtime.openvino.store`). Templates of others are
        not used.

    Returns
    -------
    FilledTemplate or None
        None as well for files that are damaged, or of models that are not floats of 16 bits: what
        reads them with torch knows what to say.
    """
    from safetensors import SafetensorError, safe_open

    if weights.suffix != ".safetensors":
        return None
    wanted = {"manifest": VERSION, "graphs": version}
    try:
        with safe_open(str(weights), "numpy") as file:
            names = list(file.keys())
            shapes = {name: file.get_slice(name).get_shape() for name in names}
            for path in sorted(TEMPLATES.glob("*.zip")):
                with zipfile.ZipFile(path) as template:
                    manifest = json.loads(template.read(MANIFEST))
                if manifest["versions"] != wanted or manifest["tensors"] != shapes:
                    continue
                tensors = {name: file.get_tensor(name) for name in names}
                if _fits(manifest, file.metadata() or {}, tensors):
                    return FilledTemplate(path, manifest, tensors)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError):
        pass
    return None


def _fits(
    manifest: Mapping[str, Any],
    notes: Mapping[str, str],
    tensors: Mapping[str, npt.NDArray[np.floating]],
) -> bool:
    """Whether a model with the tensors of a template also has what the graphs suppose."""
    floats = [each for each in tensors.values() if each.dtype.kind == "f"]
    refiner = [each for name, each in tensors.items() if name.startswith(_REFINER)]
    return (
        (notes.get(DENSE_PROMPTS) == "true") == manifest["about"]["dense_prompts"]
        and any(each.any() for each in refiner) == manifest["about"]["refines"]
        and all(each.dtype == np.float16 for each in floats)
        and all(np.isfinite(each).all() for each in floats)
    )
