"""The known checkpoints, and where their files are on this machine."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_tinysam.checkpoints.sniff import ACCEPTED
from napari_tinysam.errors import CheckpointError

if TYPE_CHECKING:
    from napari_tinysam.model import Architecture

#: Names the folder that is searched first, and that downloads go to.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_WEIGHTS"


@dataclass(frozen=True)
class Checkpoint:
    """A known checkpoint.

    Attributes
    ----------
    name : str
        Name in Python and on the command line.
    title : str
        Name in the user interface.
    architecture : str
        Image encoder, a name of `napari_tinysam.model.ENCODERS`.
    filename : str
        Name of the file on this machine.
    training_data : str
        What it was trained on.
    description : str
        A sentence that helps to choose.
    url : str or None
        Where the authors publish it; None for the bundled model.
    size : int or None
        In bytes, approximate without `sha256`. None for the bundled model.
    sha256 : str or None
        None if the authors publish none: then names and shapes are checked after the download, and
        the hash is kept.
    licence : str
        SPDX identifier of the weights' licence.
    """

    name: str
    title: str
    architecture: Architecture
    filename: str
    training_data: str
    description: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str = "Apache-2.0"


def _original(
    size: Literal["b", "l", "h"],
    version: str,
    length: int,
    sha256: str,
    description: str,
) -> Checkpoint:
    """Return a checkpoint of Segment Anything."""
    filename = f"sam_vit_{size}_{version}.pth"
    return Checkpoint(
        name=f"sam_vit_{size}",
        title=f"SAM ViT-{size.upper()}",
        architecture=f"vit_{size}",  # type: ignore[arg-type] # one of three
        filename=filename,
        training_data="SA-1B: 11 million photographs with 1.1 billion masks",
        description=description,
        url=f"https://dl.fbaipublicfiles.com/segment_anything/{filename}",
        size=length,
        sha256=sha256,
    )


REGISTRY: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint(
            name="default",
            title="Microscopy (bundled)",
            architecture="efficientnet_lite0",
            filename="default.safetensors",
            training_data="Open microscopy of nuclei, cells, bacteria, axons and particles; "
            "its encoder began with ImageNet",
            description="This project's own small model; works without a network.",
        ),
        Checkpoint(
            name="default-int8",
            title="Microscopy, 8 bits (bundled)",
            architecture="efficientnet_lite0",
            filename="default-int8.safetensors",
            training_data="That of the bundled model; quantized with eight images of it",
            description="The bundled model in 8-bit integers: quicker without a GPU, as good.",
        ),
        Checkpoint(
            name="tinysam",
            title="TinySAM",
            architecture="tiny_vit",
            url="https://github.com/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth",
            filename="tinysam_42.3.pth",
            size=40_700_000,
            training_data="1 % of SA-1B, distilled from SAM ViT-H",
            description="For photographs and images like them.",
        ),
        Checkpoint(
            name="mobile_sam",
            title="MobileSAM",
            architecture="tiny_vit",
            url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            filename="mobile_sam.pt",
            size=40_728_226,
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            training_data="1 % of SA-1B, distilled from SAM ViT-H",
            description="The same network as TinySAM, trained earlier in a simpler way.",
        ),
        _original(
            "b",
            "01ec64",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            "The smallest original model; ten times slower than TinySAM.",
        ),
        _original(
            "l",
            "0b3195",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            "A large original model; for computers with a GPU.",
        ),
        _original(
            "h",
            "4b8939",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            "The largest original model; for computers with a GPU.",
        ),
    )
}


def weights_folder() -> Path:
    """Return the folder that downloads go to; it need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return _data_folder()


def _data_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("napari-tinysam", appauthor=False) / "weights"


def registered(name: str) -> Checkpoint:
    """Return a checkpoint of `REGISTRY`.

    Raises
    ------
    CheckpointError
        If there is none of that name.
    """
    if name not in REGISTRY:
        raise unknown(name)
    return REGISTRY[name]


def unknown(name: str) -> CheckpointError:
    """Return the error for a name that is neither a checkpoint nor a file."""
    return CheckpointError(
        f"There is no model and no file called {name!r}; models are {', '.join(REGISTRY)}. "
        f"{ACCEPTED}."
    )


def find(checkpoint: Checkpoint) -> Path | None:
    """Return the file of a checkpoint if it is on this machine."""
    if checkpoint.url is None:
        package = importlib.resources.files("napari_tinysam")
        folders = [Path(str(package)) / "weights"]
    else:
        folders = [weights_folder(), _data_folder()]
    paths = (folder / checkpoint.filename for folder in folders)
    return next((path for path in paths if path.is_file()), None)
