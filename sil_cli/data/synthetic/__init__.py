"""Generated domains: drawn people seen by the cameras of several networks."""
