"""The model in the background, and the embedding of what is shown or will be."""
