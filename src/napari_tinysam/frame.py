"""Sizes that the whole project is built around."""

#: Side of the model's square input in pixels; the longer side of an image is resized to it.
FRAME = 1024

#: Pixels of the frame along a side of one cell of the embedding.
CELL = 16

#: Channels of the embedding.
EMBED_DIM = 256

#: Pixels of the frame along a side of one mask logit, and of one value of coarse object maps.
LOGIT = 4

#: Height and width of predicted logits and of mask prompts.
LOGITS = FRAME // LOGIT

#: A short axis of an image, up to this long, may hold its channels.
MAX_CHANNELS = 16
