"""Several processes that share a command: what torchrun says of them, and what they exchange."""
