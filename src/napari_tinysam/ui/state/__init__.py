"""What the session knows. No Qt."""
