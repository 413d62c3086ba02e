"""Commands, menus and sample data for napari."""
