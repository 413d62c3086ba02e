"""Single objects through planes."""
