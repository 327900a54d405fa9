"""Person re-identification in camera networks the model has never seen, by style interleaved learning."""

__version__ = "0.1.0"
