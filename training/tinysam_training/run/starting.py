"""The start of a run: a model, and the processes and devices it runs on."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.runtime.torch_runtime import computes_bfloat16
from napari_tinysam.model import (
    ENCODERS,
    DetailedMaskDecoder,
    EfficientNetEncoder,
    MaskRefiner,
    ObjectHead,
    SegmentAnything,
)
from tinysam_training.run.imagenet import begin_with_imagenet

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from segment_anything.modeling.transformer import Attention

    from napari_tinysam.model import Architecture

Precision = Literal["auto", "32-true", "bf16-mixed"]


@dataclass(frozen=True)
class Hardware:
    """The devices and precision of a run.

    Attributes
    ----------
    device : str
        "auto", "cpu", "cuda" or "mps".
    devices, nodes : int
        Number of devices in each machine, and number of machines. ``torchrun`` and Slurm set both
        themselves.
    precision : {"auto", "32-true", "bf16-mixed"}
        "auto": bfloat16 on a GPU or a CPU that has instructions for it, else float32.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "auto"


def launched(hardware: Hardware | str = "auto") -> Fabric:
    """Start the processes of a run.

    Parameters
    ----------
    hardware : Hardware or str
        A device's name means one such device.

    Raises
    ------
    DataError
        If there is no such device.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    if isinstance(hardware, str):
        hardware = Hardware(hardware)
    accelerator = _accelerator(hardware.device)
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    several = hardware.devices * hardware.nodes > 1 or world > 1
    strategy: Any = "auto"
    if several:
        # The tokens and branches in use depend on a batch's prompts.
        strategy = DDPStrategy(find_unused_parameters=True)
    fabric = Fabric(
        accelerator=accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy=strategy,
        precision=_precision(hardware.precision, accelerator),
    )
    fabric.launch()
    if accelerator == "cuda":
        torch.set_float32_matmul_precision("high")  # what is left in float32
    return fabric


def _accelerator(device: str) -> str:
    kind = device.partition(":")[0]
    if kind == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(kind, False):
        raise DataError(
            f"The device {device!r} is not available on this machine; use auto or cpu."
        )
    return kind


def _precision(wanted: Precision, accelerator: str) -> Any:
    if wanted != "auto":
        return wanted
    fast = computes_bfloat16(torch.device(accelerator))
    return "bf16-mixed" if fast else "32-true"


def starting_model(
    start: str,
    *,
    architecture: Architecture | None = None,
    decoder: str = "",
    object_head: bool = True,
    details: bool | None = None,
    dense_prompts: bool | None = None,
    imagenet: bool = False,
) -> SegmentAnything:
    """Load or make the model to train.

    Parameters
    ----------
    start : str
        "random", a name of the registry, or a checkpoint file.
    architecture : str, optional
        Of a random start, "efficientnet_lite0" if left out. Other starts have their own.
    decoder : str
        A name of the registry or a checkpoint file. Its prompt encoder, mask decoder and object
        head (if it is of the same kind) replace the start's; empty for none.
    object_head : bool
        Whether the model has one. A start without gets a new one.
    details : bool, optional
        Whether the head sees the encoder's finer features. An existing head without them is
        extended and keeps its weights. Left out: as the start; a new head sees them where the
        encoder provides them.
    dense_prompts : bool, optional
        Whether prompts are also drawn. Left out: as the start, or `decoder`, was trained.
    imagenet : bool
        Whether the EfficientNet of a random start begins with ImageNet's weights.

    Raises
    ------
    CheckpointError
        If the start or the decoder cannot be loaded.
    DataError
        If the start has another architecture, or no finer features.
    """
    if start == "random":
        model = new_model(
            architecture or "efficientnet_lite0",
            object_head=object_head,
            details=details,
        )
        if imagenet:
            begin_with_imagenet(model)
    else:
        model = checkpoints.load(start).model
        if architecture not in (None, model.architecture):
            raise DataError(
                f"{start} is a {model.architecture} model, not {architecture}; leave "
                "`model.architecture` out."
            )
        if not object_head:
            model.object_head = None
        else:
            _give_head(model, details)
    if decoder:
        _take_decoder(model, checkpoints.load(decoder).model)
    _give_refiner(model)
    if dense_prompts is not None:
        model.dense_prompts = dense_prompts
    return model


def _take_decoder(model: SegmentAnything, other: SegmentAnything) -> None:
    """Copy all parts of another model except its image encoder."""
    model.prompt_encoder.load_state_dict(other.prompt_encoder.state_dict())
    _take_mlps(model, other)
    own = model.mask_decoder.state_dict()
    known = {
        name: tensor
        for name, tensor in other.mask_decoder.state_dict().items()
        if ".mlp." not in name
    }
    # Official decoders have no layers for details; those start at zero.
    model.mask_decoder.load_state_dict(
        {name: known.get(name, own[name]) for name in own}
    )
    if isinstance(model.object_head, ObjectHead) and isinstance(
        other.object_head, ObjectHead
    ):
        _take_head(model.object_head, other.object_head)
    model.dense_prompts = other.dense_prompts


def _take_mlps(model: SegmentAnything, other: SegmentAnything) -> None:
    """Copy the decoder's MLPs for tokens, which may be narrower in a model of ours.

    A decoder that official code reads keeps its width: its other hidden units count for nothing at
    first.
    """
    layers = zip(
        model.mask_decoder.transformer.layers,
        other.mask_decoder.transformer.layers,
        strict=True,
    )
    for layer, known in layers:
        width = known.mlp.lin1.out_features
        spare = layer.mlp.lin1.out_features - width
        if isinstance(model.mask_decoder, DetailedMaskDecoder) or not spare:
            layer.mlp = copy.deepcopy(known.mlp).train(model.training)
            continue
        with torch.no_grad():
            layer.mlp.lin1.weight[:width] = known.mlp.lin1.weight
            layer.mlp.lin1.bias[:width] = known.mlp.lin1.bias
            layer.mlp.lin2.weight[:, :width] = known.mlp.lin2.weight
            layer.mlp.lin2.weight[:, width:] = 0
            layer.mlp.lin2.bias.copy_(known.mlp.lin2.bias)


def _give_refiner(model: SegmentAnything) -> None:
    """Add a trainable refiner to a model of a version without one."""
    decoder, encoder = model.mask_decoder, model.image_encoder
    if isinstance(decoder, DetailedMaskDecoder) and decoder.refiner.is_blank:
        assert isinstance(encoder, EfficientNetEncoder)
        decoder.refiner = MaskRefiner(encoder.detail_channels).train(model.training)


def _give_head(model: SegmentAnything, details: bool | None) -> None:
    """Set up the requested object head, with the weights that the model's own shares with it."""
    own = model.object_head
    if details is None:
        details = has_details(model.architecture) if own is None else own.detailed
    if own is not None and own.detailed == details:
        return
    if model.encoder_kind.has_pyramid and own is not None:
        return  # it always sees them
    if details and not has_details(model.architecture):
        raise DataError(
            f"A {model.architecture} encoder has no finer features for its object head; "
            "leave `model.details` out."
        )
    model.object_head = model.new_object_head(details).train(model.training)
    if isinstance(own, ObjectHead) and isinstance(model.object_head, ObjectHead):
        _take_head(model.object_head, own)


def _take_head(head: ObjectHead, other: ObjectHead) -> None:
    """Copy the weights that two object heads share: all, or those independent of details."""
    state = head.state_dict()
    fitting = {
        name: tensor
        for name, tensor in other.state_dict().items()
        if name in state and state[name].shape == tensor.shape
    }
    head.load_state_dict(state | fitting)


def has_details(architecture: Architecture) -> bool:
    """Return whether an encoder provides the object head with finer features."""
    return bool(ENCODERS[architecture].detail_channels)


def thresholds_of(start: str) -> dict[str, str]:
    """Read the thresholds of everything mode that a start's file holds.

    They serve the trained model until `tinysam_training.calibration.calibrate` measures its own.

    Parameters
    ----------
    start : str
        As for `starting_model`.

    Returns
    -------
    dict
        For the notes of a checkpoint; empty where there are none.
    """
    notes = notes_of(start)
    return {NOTE: notes[NOTE]} if NOTE in notes else {}


def notes_of(start: str) -> dict[str, str]:
    """Read the notes of a start's file, as for `starting_model`; none of "random"."""
    if start == "random":
        return {}
    registered = start in checkpoints.REGISTRY
    path = checkpoints.fetch(start) if registered else Path(start).expanduser()
    return checkpoints.read_notes(path)  # the header alone: a teacher's file is large


def new_model(
    architecture: Architecture = "efficientnet_lite0",
    *,
    object_head: bool = True,
    details: bool | None = None,
    image_size: int = FRAME,
) -> SegmentAnything:
    """Make a model with random weights, initialised so that prompts find their place at once.

    Queries and keys of the cross-attention start equal, so the positional encoding of a prompt
    attends to its own place in the image from the first step. Learnt tokens start smaller than
    usual, or they would drown that encoding. Without this, decoders learn nothing in the first
    hundreds of steps.

    Parameters
    ----------
    architecture, object_head, image_size
        As for `SegmentAnything`.
    details : bool, optional
        As there. Left out: where the encoder provides them.
    """
    if details is None:
        details = has_details(architecture)
    model = SegmentAnything(
        architecture, image_size, object_head=object_head, details=details
    )
    decoder: Any = model.mask_decoder
    encoder: Any = model.prompt_encoder
    with torch.no_grad():
        transformer = decoder.transformer
        crossings: list[Attention] = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            crossings += [
                layer.cross_attn_token_to_image,
                layer.cross_attn_image_to_token,
            ]
        for attention in crossings:
            nn.init.xavier_uniform_(attention.q_proj.weight, gain=1.6)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.q_proj.bias.zero_()
            attention.k_proj.bias.zero_()
        for table in (
            *encoder.point_embeddings,
            encoder.not_a_point_embed,
            decoder.iou_token,
            decoder.mask_tokens,
        ):
            table.weight.mul_(0.5)
        encoder.no_mask_embed.weight.mul_(0.1)
    return model
