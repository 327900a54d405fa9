"""Runs: what lies in a run folder, from settings and metrics to the checkpoints of an unfinished training."""
