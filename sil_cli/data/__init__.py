"""Data sets: manifests, readers, generated domains, images, sampling. Never needs torch."""
