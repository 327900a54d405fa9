"""The version of this program, for records of what made a file."""

VERSION = "0.1.0"
