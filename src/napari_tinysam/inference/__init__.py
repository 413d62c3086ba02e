"""Images to embeddings, embeddings and prompts to masks."""
