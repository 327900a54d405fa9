"""Records of exports that were never written, for tests of what reads them."""

from typing import Any

from sil_cli.models.record import Architecture, ExportRecord, ModelRecord


def export_record(architecture: Architecture, dimension: int = 512, **known: Any) -> ExportRecord:
    """A record of a float32 export of such a model; `known` replaces what is made up."""
    made_up = {
        "model": ModelRecord(architecture=architecture, dimension=dimension, fingerprint="f" * 64),
        "precision": "float32",
        "file": "model.onnx",
        "sha256": "0" * 64,
        "opset": 20,
        "crops": 1,
        "measured_on": "nothing",
        "agreement": {},
        "versions": {},
    }
    return ExportRecord(**made_up | known)
