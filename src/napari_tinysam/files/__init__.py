"""Image, label and picture files."""
