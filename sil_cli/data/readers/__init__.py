"""Readers: one module a layout; each turns a folder into records."""
