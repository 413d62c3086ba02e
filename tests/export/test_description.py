"""What exported files say about themselves is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from efficient_models import efficient_model
from export.small_exports import SIDE, small_model
from napari_tinysam.export import FORMATS, OPSET, export

NOTES = {"name": "small | large", "licence": "CC0\nor any other"}


@pytest.fixture(scope="module", params=FORMATS)
def folders(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Of a model with everything, one with nothing, and one with finer features."""
    if request.param == "openvino":
        pytest.importorskip(
            "openvino", reason="OpenVINO has no wheel for this platform"
        )
    found = []
    for model in (
        small_model(),
        small_model(head=False, dense=False),
        efficient_model(SIDE),
    ):
        folder = tmp_path_factory.mktemp("files") / "out"
        files = export(model, folder, format=request.param, notes=NOTES)
        assert [file.parent for file in files] == [folder] * len(files)
        assert {file.name for file in files} == {f.name for f in folder.iterdir()}
        found.append(folder)
    return found


Port = tuple[str, tuple[int | str, ...], str]

_TYPES = {"u8": "uint8", "i64": "int64", "i32": "int32", "f32": "float32"}


def ports_of(file: Path) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs that a file has: names, shapes and types."""
    if file.suffix == ".onnx":
        graph = onnx.load(file).graph

        def described(port: Any) -> Port:
            kind = port.type.tensor_type
            name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            shape = (d.dim_param or d.dim_value for d in kind.shape.dim)
            return port.name, tuple(shape), name

        return list(map(described, graph.input)), list(map(described, graph.output))
    from napari_tinysam.inference.runtime.openvino.compiled import openvino_core

    model = openvino_core().read_model(file)

    def of_openvino(port: Any) -> Port:
        # It knows no letters: -1 is any number.
        shape = (
            "?" if d.is_dynamic else d.get_length() for d in port.get_partial_shape()
        )
        kind = _TYPES[port.get_element_type().get_type_name()]
        return port.get_any_name(), tuple(shape), kind

    return list(map(of_openvino, model.inputs)), list(map(of_openvino, model.outputs))


def nameless(ports: list[Port]) -> list[Port]:
    return [
        (name, tuple("?" if isinstance(n, str) else n for n in shape), kind)
        for name, shape, kind in ports
    ]


def test_programs_are_told_what_goes_in_and_out(folders: list[Path]) -> None:
    for folder in folders:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        assert about["frame_size"] == 128
        assert about["notes"] == NOTES
        assert all((folder / name).is_file() for name in about["files"])
        for graph in ("encoder", "decoder"):
            (file,) = (
                folder / name
                for name in about["files"]
                if name.startswith(graph) and not name.endswith(".bin")
            )
            for kind, real in zip(("inputs", "outputs"), ports_of(file), strict=True):
                said = [
                    (port["name"], tuple(port["shape"]), port["dtype"])
                    for port in about[graph][kind]
                ]
                if file.suffix == ".onnx":
                    assert said == real
                else:
                    assert nameless(said) == real
                assert all(port["meaning"] for port in about[graph][kind])


def test_people_are_told_the_same(folders: list[Path]) -> None:
    for folder in folders:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        page = (folder / "README.md").read_text("utf-8")
        rows = re.findall(r"^\| `(\w+)` \| \((.*?),?\) \| (\w+) \|", page, re.MULTILINE)
        said = [
            (port["name"], ", ".join(map(str, port["shape"])), port["dtype"])
            for graph in ("encoder", "decoder")
            for kind in ("inputs", "outputs")
            for port in about[graph][kind]
        ]
        assert rows == said
        for name in about["files"]:
            assert name in page
        assert "| name | small \\| large |" in page
        assert "| licence | CC0 or any other |" in page
        assert ("INFERENCE_PRECISION_HINT" in page) == (about["format"] == "openvino")
        assert ("`regions`" in page) == about["object_head"]


def test_files_are_whole_and_name_no_place_of_this_computer(
    folders: list[Path],
) -> None:
    here = str(Path(__file__).parents[2]).encode()
    for folder in folders:
        for file in folder.iterdir():
            content = file.read_bytes()
            assert content
            assert here not in content
            assert str(folder.parent).encode() not in content
            if file.suffix == ".onnx":
                onnx.checker.check_model(onnx.load(file), full_check=True)
                (opset,) = onnx.load(file).opset_import
                assert (opset.domain, opset.version) == ("", OPSET)
