"""The teacher of a distillation and its embeddings."""
