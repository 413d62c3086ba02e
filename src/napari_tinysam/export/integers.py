"""Store the rounded weights of an ONNX graph as 8-bit integers.

A model that rounds its weights is exported with float weights, each followed by its rounding. Here
the rounding is computed, so that the file holds 8 bits for each weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_ROUNDED, _FLOATS = "QuantizeLinear", "DequantizeLinear"


def store_integers(model: Any) -> None:
    """Replace weights and their rounding by 8-bit integers.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place. Weights that are rounded several times are kept once.
    """
    from onnx import numpy_helper

    graph = model.graph
    known = _constants(graph)
    rounding = [
        node
        for node in graph.node
        if node.op_type == _ROUNDED and set(node.input) <= known
    ]
    numbers = _computed(model, {name for node in rounding for name in node.input})
    kept: dict[Any, str] = {}  # names of arrays by their content

    def keep(array: npt.NDArray[Any]) -> str:
        content = (array.dtype.str, array.shape, array.tobytes())
        if content not in kept:
            kept[content] = f"rounded_{len(kept)}"
            graph.initializer.append(numpy_helper.from_array(array, kept[content]))
        return kept[content]

    replaced = {}
    for node in rounding:
        weight, scale, zero = (numbers[name] for name in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        replaced[node.output[0]] = keep(_rounded(weight, scale, zero, axis))
    for node in graph.node:
        if node.op_type == _FLOATS and node.input[0] in replaced:
            scale = numbers[node.input[1]]
            node.input[:] = [
                replaced[node.input[0]],
                keep(scale),
            ]  # the zero point is 0
    _keep_nodes(graph, [n for n in graph.node if n.output[0] not in replaced])
    _remove_unused(graph)


def _rounded(
    weight: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    zero: npt.NDArray[np.int8],
    axis: int,
) -> npt.NDArray[np.int8]:
    """Round as the node does, to integers around 0."""
    assert zero.dtype == np.int8
    assert not zero.any()
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = np.rint(weight / scale.reshape(shape))
    return np.asarray(np.clip(steps, -128, 127), np.int8)


def _constants(graph: Any) -> set[str]:
    """Names of values that do not depend on inputs, up to rounding."""
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in (_ROUNDED, _FLOATS) and set(node.input) <= known:
            known.update(node.output)
    return known


def _computed(model: Any, names: set[str]) -> dict[str, npt.NDArray[Any]]:
    """Values of constants."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    found = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in names
    }
    wanted = sorted(names - set(found))
    if not wanted:
        return found
    needed, nodes = set(wanted), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            nodes.append(node)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        for name in wanted
    ]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    part = helper.make_graph(nodes[::-1], "constants", [], outputs, weights)
    alone = helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    values = ReferenceEvaluator(alone).run(None, {})
    return found | dict(zip(wanted, values, strict=True))


def _remove_unused(graph: Any) -> None:
    """Remove nodes and weights that no output needs."""
    used, nodes = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if used & set(node.output):
            used.update(node.input)
            nodes.append(node)
    _keep_nodes(graph, nodes[::-1])
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _keep_nodes(graph: Any, nodes: list[Any]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
