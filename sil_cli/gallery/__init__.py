"""The gallery: a database of embeddings, filled from images, looked after, and searched."""
