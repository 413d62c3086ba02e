"""What the OpenVINO runtime needs beside the graphs: a few arrays that follow from the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.inference.runtime.prompt_tokens import PromptTokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

#: Projections of positions by the second layer's attentions and the last one, in the order of
#: `napari_tinysam.model.fast.decoder.RestructuredDecoder.placed`.
_PROJECTIONS = (
    "layers.1.cross_attn_token_to_image.k_proj",
    "layers.1.cross_attn_image_to_token.q_proj",
    "final_attn_token_to_image.k_proj",
)


def arrays_of(
    weights: Mapping[str, npt.NDArray[np.floating]], image_size: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Return learnt vectors of points and boxes, and the frame's projected positions.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
        By official names.
    image_size : int
        Side of the model's frame in pixels.

    Returns
    -------
    dict
        ``frequencies`` and ``kinds`` as in `PromptTokens`, ``placed`` (1, 3, 128, P); float32.
    """

    def weight(name: str) -> npt.NDArray[np.float32]:
        return np.asarray(weights[name], np.float32)

    prompts = "prompt_encoder."
    kinds = [f"point_embeddings.{n}" for n in range(4)] + ["not_a_point_embed"]
    tokens = PromptTokens(
        weight(f"{prompts}pe_layer.positional_encoding_gaussian_matrix"),
        np.concatenate([weight(f"{prompts}{kind}.weight") for kind in kinds]),
        image_size,
    )
    positions = tokens.positions().T  # (256, P)
    placed = [
        weight(f"mask_decoder.transformer.{name}.weight") @ positions
        for name in _PROJECTIONS
    ]
    return {
        "frequencies": tokens.frequencies,
        "kinds": tokens.kinds,
        "placed": np.stack(placed)[None],
    }
