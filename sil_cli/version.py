"""The version of this program, for records of what made a file."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("sil-cli")
except PackageNotFoundError:  # run from a folder of sources that nobody installed
    VERSION = "0+unknown"
