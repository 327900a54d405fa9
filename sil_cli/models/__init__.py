"""Models: backbones, stylisation layers, the embedder, loading and feature extraction."""
