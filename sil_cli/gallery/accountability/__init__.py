"""What makes those who search a gallery answerable: its policy, the log of who searched what, and retention."""
