"""The description of exported files: inputs and outputs, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from napari_tinysam.files.tables import markdown_table
from napari_tinysam.frame import CELL, EMBED_DIM

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Parameters
    ----------
    name : str
    shape : tuple
        Numbers, and letters for dimensions that may be any number.
    dtype : str
    meaning : str
        For people.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Description:
    """An exported model.

    Parameters
    ----------
    format : str
        "onnx" or "openvino".
    frame_size : int
        S, in pixels.
    object_head, dense_prompts, integers : bool
        As of the model, and of `export`.
    details : bool
        Whether the decoder reads the encoder's details.
    detail_channels : (int, int)
        Channels at strides 8 and 4.
    map_stride : int
        Side of one value of the object maps, in pixels of the frame.
    notes : mapping of str to str
        Other facts about the model.
    """

    format: str
    frame_size: int
    object_head: bool
    dense_prompts: bool
    integers: bool
    details: bool = False
    detail_channels: tuple[int, int] = (64, 32)
    map_stride: int = 4
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Title of the page: name, number of bits, origin."""
        name = self.notes.get("name", "a Segment Anything model")
        return f"{name}{' in 8 bits' if self.integers else ''}, by napari-tinysam"

    @property
    def reads_regions(self) -> bool:
        """Whether the decoder reads the objects that the object head sees."""
        return self.dense_prompts and self.object_head

    @property
    def files(self) -> list[str]:
        """Names of the files of encoder and decoder."""
        return [
            name + suffix
            for name in ("encoder", "decoder")
            for suffix in _SUFFIXES[self.format]
        ]

    def inputs(self, graph: str) -> list[Port]:
        """Return the inputs of "encoder" or "decoder", in their order."""
        side, logits = self.frame_size, self.frame_size // 4
        if graph == "encoder":
            return [
                Port(
                    "image",
                    (1, side, side, 3),
                    "uint8",
                    f"RGB. The longer side of the image is resized to {side} pixels (bilinear, "
                    "antialiased) and placed at the top left; the rest is 0. The encoder "
                    "normalises the image.",
                ),
                Port(
                    "size",
                    (2,),
                    "int64",
                    "Height and width of the resized image in it.",
                ),
            ]
        found = [
            self._embedding,
            Port(
                "points",
                ("N", "P", 2),
                "float32",
                f"x and y in pixels of the {side} × {side} frame. N objects with P points each, "
                "one or more.",
            ),
            Port(
                "labels",
                ("N", "P"),
                "int64",
                "1: a point on the object; 0: outside it; 2 and 3: the top left and the bottom "
                "right corner of a box (one for each object); −1: no point.",
            ),
            Port(
                "mask_prompt",
                ("N", 1, logits, logits),
                "float32",
                "Logits of an earlier answer, one of `masks`.",
            ),
            Port(
                "has_mask",
                ("N",),
                "float32",
                "1 for objects whose `mask_prompt` is used, else 0.",
            ),
        ]
        found += self._details
        if self.reads_regions:
            found.append(
                Port(
                    "regions",
                    (logits, logits),
                    "int32",
                    "The objects in `object_maps`: 1, 2, 3 and so on, 0 where there is none. A "
                    "click in a region selects that region. Without regions (all 0) a click "
                    f"selects a round object, and masks are worse.{self._reduced}",
                )
            )
        return found

    def outputs(self, graph: str) -> list[Port]:
        """Return the outputs of "encoder" or "decoder", in their order."""
        logits = self.frame_size // 4
        if graph == "decoder":
            return [
                Port(
                    "masks",
                    ("N", 3, logits, logits),
                    "float32",
                    "Logits of three masks for each object, over the whole frame. Resize them to "
                    "the image; a mask is where they are above 0.",
                ),
                Port("scores", ("N", 3), "float32", "Predicted IoU of each mask."),
            ]
        maps = self.frame_size // self.map_stride
        found = [self._embedding, *self._details]
        if self.object_head:
            found.append(
                Port(
                    "object_maps",
                    (1, 3, maps, maps),
                    "float32",
                    "Objects, without any prompt: probability of foreground; distance to the "
                    "centre of the object, 0 at the centre, 1 at its farthest place and "
                    "outside; distance to its boundary, 1 at the deepest place, 0 outside.",
                )
            )
        return found

    @property
    def _embedding(self) -> Port:
        cells = self.frame_size // CELL
        return Port(
            "embedding",
            (1, EMBED_DIM, cells, cells),
            "float32",
            "The encoded image, for any number of calls of the decoder.",
        )

    @property
    def _details(self) -> list[Port]:
        if not self.details:
            return []
        return [
            Port(
                f"details_{stride}",
                (1, channels, self.frame_size // stride, self.frame_size // stride),
                "float32",
                f"Finer features of the image, with cells of {stride} pixels of the frame.",
            )
            for stride, channels in zip((8, 4), self.detail_channels, strict=True)
        ]

    @property
    def _reduced(self) -> str:
        """How larger maps become regions."""
        step = 4 // self.map_stride
        if step == 1:
            return ""
        return f" Find them in the maps' means of {step} × {step} values."

    def json(self) -> str:
        """Return the description for programs."""
        found = {
            "format": self.format,
            "files": self.files,
            "frame_size": self.frame_size,
            "object_head": self.object_head,
            "dense_prompts": self.dense_prompts,
            "integers": self.integers,
            "details": self.details,
            "map_stride": self.map_stride,
            "notes": dict(self.notes),
        }
        for graph in ("encoder", "decoder"):
            found[graph] = {
                "inputs": [asdict(each) for each in self.inputs(graph)],
                "outputs": [asdict(each) for each in self.outputs(graph)],
            }
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def page(self) -> str:
        """Return the page for people, in Markdown."""
        lines = [
            f"# {self.title}",
            "",
            "The encoder reads an image once; the decoder turns points, boxes and earlier masks "
            "into masks. `docs/export.md` of napari-tinysam shows how to use them from Python. "
            "`about.json` has the same content as this page, for programs.",
        ]
        for graph in ("encoder", "decoder"):
            names = " and ".join(n for n in self.files if n.startswith(graph))
            lines += ["", f"## {names}", "", _table("input", self.inputs(graph))]
            lines += ["", _table("output", self.outputs(graph))]
        lines += ["", "## Good to know", ""]
        lines += [f"- {sentence}" for sentence in self._remarks()]
        if self.notes:
            lines += [
                "",
                "## The model",
                "",
                markdown_table(("", ""), self.notes.items()),
            ]
        return "\n".join(lines) + "\n"

    def _remarks(self) -> list[str]:
        found = [
            "All objects of a call have the same number of points. Rows padded with points of "
            "label −1 get slightly different masks. If that matters, use a separate call for "
            "each number of points.",
            "In Segment Anything's own export, points without a box are followed by one point of "
            "label −1. Here it is added if all labels of a call are 0 or 1. If there are others, "
            "add one of label −1 to the rows without a box.",
        ]
        if self.dense_prompts:
            found.append(
                "The model gets prompts as a drawn map, and corrects it. The decoder does the "
                "drawing: a box "
                + ("as the region that fills it, or " if self.reads_regions else "")
                + "as a box, a click "
                + ("as its region, or " if self.reads_regions else "")
                + "as a cone around it, an earlier mask as it is."
            )
        if self.integers:
            found.append(
                "Weights are 8-bit integers, and most layers of the encoder round their inputs. "
                "OpenVINO computes these layers with integers. ONNX Runtime computes with floats "
                "on most processors, and is no faster."
            )
        if self.format == "openvino":
            found.append(
                'Compile the decoder with `{"INFERENCE_PRECISION_HINT": "f32"}`: in bfloat16, '
                "the default on some processors, some clicks select another object."
            )
            if self.integers:
                found.append(
                    'Compile it with `"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"` too. Otherwise '
                    "OpenVINO also rounds the inputs of other layers with 8-bit weights."
                )
        return found


def _table(kind: str, ports: list[Port]) -> str:
    rows = []
    for each in ports:
        shape = f"({', '.join(map(str, each.shape))}{',' * (len(each.shape) == 1)})"
        rows.append((f"`{each.name}`", shape, each.dtype, each.meaning))
    return markdown_table((kind, "shape", "type", ""), rows)
