"""Preparation: from raw images, or from nothing, to prepared data sets."""
