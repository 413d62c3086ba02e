"""Auto-segmentation of a plane, of many planes, and of files."""
