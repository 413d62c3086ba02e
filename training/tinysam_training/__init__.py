"""Training of the models that napari-tinysam runs."""
