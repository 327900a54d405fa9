"""Retrieval: distances and the gallery."""
