"""What clicks and keys do, and the masks of what is not committed yet."""
