"""Training: prototype memory, the interleaved step, schedule, checkpoints, the loop."""
