"""Ask OpenVINO how much of a quantized model it computes with integer kernels.

Run as ``python -m papers.kernels MODEL``.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_tinysam.inference.load import load_model
from papers.shared import refusals

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime

#: Nodes with weights, as the CPU plugin names them.
_WEIGHTED = ("Convolution", "FullyConnected", "Deconvolution")

_INTEGERS = ("i8", "u8")


def multiplications(runtime: OpenVinoRuntime) -> dict[str, float]:
    """Count the multiply-accumulates of the encoder's layers, by precision.

    Parameters
    ----------
    runtime : OpenVinoRuntime
        Of a quantized model, with integers.

    Returns
    -------
    dict of str to float
        By what their kernels compute with: "f32", "bf16", "i8", "u8". Products of two activations,
        as in attention, do not count: they have no weights, and stay in floats.
    """
    compiled: Any = runtime._encoder._compiled
    found: dict[str, float] = defaultdict(float)
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) not in _WEIGHTED:
            continue
        outputs = np.prod(list(node.output(0).get_partial_shape().to_shape()))
        weights = list(node.input(1).get_partial_shape().to_shape())
        # (C_out, C_in, …) or (groups, C_out, C_in, …): products for one output value.
        grouped = len(weights) > 4
        inner = np.prod(weights[2:] if grouped else weights[1:])
        found[about["runtimePrecision"].astype(str)] += float(outputs * inner)
    return dict(found)


def integer_share(counted: dict[str, float]) -> float:
    """Share of integers among `multiplications`."""
    return sum(counted.get(name, 0.0) for name in _INTEGERS) / sum(counted.values())


def main() -> None:
    """Print a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    name = parser.parse_args().model
    with refusals():
        predictor = load_model(name, runtime="openvino", precision="int8")
    counted = multiplications(cast("OpenVinoRuntime", predictor._runtime))
    total = sum(counted.values())
    for precision, count in sorted(counted.items(), key=lambda each: -each[1]):
        sys.stdout.write(
            f"{precision}: {count / 1e9:.2f} GMAC, {count / total:.1%} of the layers'\n"
        )


if __name__ == "__main__":
    main()
