"""The annotation session. No Qt."""
