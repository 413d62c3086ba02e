"""A short training of the bundled model on a GPU machine that has only Python and torch.

``script/train-on-gpu`` packs everything it needs into one folder; one command trains there; then
``script/train-on-gpu collect`` puts together what came back, and judges it.
"""
