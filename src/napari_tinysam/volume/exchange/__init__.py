"""Tracks for and from other programs: napari, CSV, GEFF, TrackMate; CTC is in `volume.ctc`."""
