"""The command ``napari-tinysam``."""
