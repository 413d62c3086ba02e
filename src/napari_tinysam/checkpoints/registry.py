"""The known checkpoints, and where their files are on this machine."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    url : str or None
        Where the authors publish it; None for the bundled model.
    filename : str
        Name of the file on this machine.
    size : int or None
        In bytes, approximate without `sha256`. None for the bundled model.
    sha256 : str or None
        None if the authors publish none: then names and shapes are checked after the download, and
        the hash is kept.
    licence : str
        SPDX identifier of the weights' licence.
    training_data : str
        What it was trained on.
    description : str
        A sentence that helps to choose.
    """

    name: str
    title: str
    architecture: Architecture
    url: str | None
    filename: str
    size: int | None
    sha256: str | None
    licence: str
    training_data: str
    description: str


_SAM_FOLDER = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM_DATA = "SA-1B: 11 million photographs with 1.1 billion masks"

REGISTRY: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint(
            name="default",
            title="Microscopy (bundled)",
            architecture="efficientnet_lite0",
            url=None,
            filename="default.safetensors",
            size=None,
            sha256=None,
            licence="Apache-2.0",
            training_data="Open microscopy of nuclei, cells, bacteria, axons and particles; "
            "its encoder began with ImageNet",
            description="This project's own small model; works without a network.",
        ),
        Checkpoint(
            name="default-int8",
            title="Microscopy, 8 bits (bundled)",
            architecture="efficientnet_lite0",
            url=None,
            filename="default-int8.safetensors",
            size=None,
            sha256=None,
            licence="Apache-2.0",
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
            sha256=None,
            licence="Apache-2.0",
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
            licence="Apache-2.0",
            training_data="1 % of SA-1B, distilled from SAM ViT-H",
            description="The same network as TinySAM, trained earlier in a simpler way.",
        ),
        Checkpoint(
            name="sam_vit_b",
            title="SAM ViT-B",
            architecture="vit_b",
            url=_SAM_FOLDER + "sam_vit_b_01ec64.pth",
            filename="sam_vit_b_01ec64.pth",
            size=375_042_383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            licence="Apache-2.0",
            training_data=_SAM_DATA,
            description="The smallest original model; ten times slower than TinySAM.",
        ),
        Checkpoint(
            name="sam_vit_l",
            title="SAM ViT-L",
            architecture="vit_l",
            url=_SAM_FOLDER + "sam_vit_l_0b3195.pth",
            filename="sam_vit_l_0b3195.pth",
            size=1_249_524_607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            licence="Apache-2.0",
            training_data=_SAM_DATA,
            description="A large original model; for computers with a GPU.",
        ),
        Checkpoint(
            name="sam_vit_h",
            title="SAM ViT-H",
            architecture="vit_h",
            url=_SAM_FOLDER + "sam_vit_h_4b8939.pth",
            filename="sam_vit_h_4b8939.pth",
            size=2_564_550_879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            licence="Apache-2.0",
            training_data=_SAM_DATA,
            description="The largest original model; for computers with a GPU.",
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
