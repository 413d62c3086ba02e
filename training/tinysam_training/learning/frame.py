"""Sizes of the model's input, in which all of training is measured."""

#: Side of the model's square input in pixels; an image's longer side is resized to it.
FRAME = 1024

#: Pixels of the frame along a side of one embedding cell.
CELL = 16

#: Pixels of the frame along a side of one mask logit, and of one value of the object maps.
LOGIT = 4
