"""The dock widget, its session and all that knows napari and Qt."""
