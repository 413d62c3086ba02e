"""The model's speed, compared with the machine's best: ``python -m benchmarks.limits``.

torch counts the operations of the restructured modules. OpenVINO measures the machine's best: one
large matrix product in each precision. numpy measures copying.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_tinysam import checkpoints, load_model
from napari_tinysam.files.tables import markdown_table
from napari_tinysam.model.fast.decoder import RestructuredDecoder
from napari_tinysam.model.fast.encoder import RestructuredEncoder

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime.openvino.runtime import (
        OpenVinoFeatures,
        OpenVinoRuntime,
    )
    from napari_tinysam.model import SegmentAnything, TinyVitEncoder

#: The matrix product: (ROWS, DEPTH) by (DEPTH, COLUMNS).
ROWS, DEPTH, COLUMNS = 4096, 1024, 1024

#: How often decoding a prompt reads or writes all tokens of the image, counted in the converted
#: graph: seven products, a sum and two norms, a product with weights, and the first step of
#: drawing.
PASSES = 17


def seconds(run: Callable[[], Any], rounds: int = 15) -> float:
    """Median of some rounds, after three for warming up."""
    taken = []
    for _ in range(rounds + 3):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[3:])


def best_rate(precision: str) -> float:
    """Operations a second of a large matrix product; a multiply-add counts as two.

    With constant weights or without, whichever is faster, as kernels differ. "int8" includes
    rounding the tokens, as in a layer.
    """
    import openvino
    from openvino import opset8

    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(ROWS, DEPTH)).astype(np.float32)
    weights = rng.normal(size=(COLUMNS, DEPTH)).astype(np.float32)
    integers = precision == "int8"
    hints: dict[str, str] = {"PERFORMANCE_HINT": "LATENCY"}
    if not integers:
        hints["INFERENCE_PRECISION_HINT"] = precision

    def rounded(node: Any) -> Any:
        if not integers:
            return node
        ends = [opset8.constant(np.float32(end)) for end in (-4.0, 3.96875)]
        return opset8.fake_quantize(node, *ends, *ends, 256)

    taken = []
    for constant in (True,) if integers else (True, False):
        given = [opset8.parameter(tokens.shape, np.float32)]
        if not constant:
            given.append(opset8.parameter(weights.shape, np.float32))
        other = opset8.constant(weights) if constant else given[1]
        product = opset8.matmul(rounded(given[0]), rounded(other), False, True)
        model = openvino.Model([product], given, "product")
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        request = compiled.create_infer_request()
        arrays = [tokens, weights][: len(given)]
        taken.append(seconds(partial(request.infer, arrays, share_inputs=True)))
    return 2 * ROWS * DEPTH * COLUMNS / min(taken)


def copy_rate() -> float:
    """Bytes a second that copying reads and writes, with arrays larger than any cache."""
    source = np.ones(64_000_000, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


def operations(model: SegmentAnything) -> dict[str, float]:
    """Count the operations of an image, and of one prompt."""
    encoder = RestructuredEncoder(
        cast("TinyVitEncoder", model.image_encoder), model.object_head
    )
    decoder = RestructuredDecoder(model).eval()
    cells = model.image_size // 16
    found = {}
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            embedding, _ = encoder(
                torch.zeros(1, 3, model.image_size, model.image_size)
            )
            side = decoder.prepare(embedding)
        found["encode"] = float(counter.get_total_flops())
        placed = decoder.placed((cells, cells))
        masks = torch.zeros(1, 1, 4 * cells, 4 * cells)
        with FlopCounterMode(display=False) as counter:
            answers = decoder.attend(side, torch.zeros(1, 2, 256), masks, placed)
        found["decode"] = float(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            decoder.upscale(answers.image, answers.kernels, (cells, cells))
        found["draw"] = float(counter.get_total_flops())
    return found


def measured(runtime: OpenVinoRuntime) -> dict[str, float]:
    """Measure the seconds of the same work."""
    side = runtime.image_size
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (side, side, 3), np.uint8)
    features: OpenVinoFeatures = runtime.encode(rgb)
    given: dict[str, Any] = {
        "points": np.full((1, 1, 2), side / 2, np.float32),
        "labels": np.ones((1, 1), np.int32),
        "boxes": None,
        "masks": rng.normal(0, 8, (1, side // 4, side // 4)).astype(np.float32),
    }
    never = np.full(1, np.inf, np.float32)
    encode = seconds(lambda: runtime.encode(rgb))
    drawn = seconds(lambda: runtime.decode(features, **given))
    decode = seconds(lambda: runtime.decode(features, **given, least_scores=never))
    return {"encode": encode, "decode": decode, "draw": drawn - decode}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    name = parser.parse_args().model
    runtime = cast(
        "OpenVinoRuntime", load_model(name, runtime="openvino", convert=print)._runtime
    )
    counted = operations(checkpoints.load(name).model.eval())
    taken = measured(runtime)
    # A quantized model computes the rest in bfloat16, the decoder included.
    beside = {"int8": "bf16"}.get(runtime.precision, runtime.precision)
    precisions = {
        "encode": runtime.precision,
        "decode": "bf16" if runtime.precision == "int8" else "f32",
        "draw": beside,
    }
    rates = {precision: best_rate(precision) for precision in set(precisions.values())}
    copied = copy_rate()
    tokens = (runtime.image_size // 16) ** 2 * 256 * 4
    header = (
        "work",
        "GFLOP",
        "precision",
        "at the machine's best",
        "measured",
        "share",
    )
    rows = []
    for work, precision in precisions.items():
        least = counted[work] / rates[precision]
        rows.append(
            (
                work,
                f"{counted[work] / 1e9:.2f}",
                precision,
                f"{1000 * least:.1f} ms",
                f"{1000 * taken[work]:.1f} ms",
                f"{least / taken[work]:.0%}",
            )
        )
    best = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {key}" for key, rate in rates.items())
    moved = PASSES * tokens
    sys.stdout.write(
        f"{markdown_table(header, rows)}\n\nThe machine: {best}; copying {copied / 1e9:.1f} GB/s. "
        f"A prompt moves some {moved / 1e6:.0f} MB of image tokens: "
        f"{1000 * moved / copied:.1f} ms where they are in no cache.\n"
    )


if __name__ == "__main__":
    main()
