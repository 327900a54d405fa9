"""The composition root: prepare, train, evaluate, index and search, from Settings to results."""
