"""Similarity: cosines, top-k, re-ranking and expansion; arrays in, arrays out."""
