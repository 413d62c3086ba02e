"""A short training of the bundled model on a machine with a GPU that has Python and torch, no more.

``script/train-on-gpu`` is the command: what is needed is packed into one folder, one command trains
there, and what comes back is put together and judged.
"""
