"""What is done is told to journals, and comes back from them."""
