"""What one training step computes."""
