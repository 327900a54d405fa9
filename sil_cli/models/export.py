"""Exporting an embedder as ONNX, its preprocessing inside: uint8 pixels in, unit rows out, any batch size."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from typing import TYPE_CHECKING

import onnx
import torch
from torch import Tensor, nn

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.narrow_maps import widen_narrow_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sil_cli.models.embedder import Embedder

OPSET = 20
INPUT, OUTPUT = "pixels", "embeddings"


class _FromPixels(nn.Module):
    """An embedder that takes pixels as images are decoded: uint8 (B, height, width, 3)."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit rows (B, dimension)."""
        embeddings: Tensor = self.embedder(pixels.permute(0, 3, 1, 2))
        return embeddings


def export_onnx(embedder: Embedder) -> bytes:
    """An embedder as an ONNX file's content.

    Scaling, normalisation and the final unit length are part of the graph; batch norms are folded into the
    convolutions before them. The batch size is free. What the exporter notes of the machine (source paths, traces)
    is left out.

    Args:
        embedder: In eval mode, on the CPU, float32.

    Raises:
        ModelError: The exporter failed.
    """
    size = embedder.architecture
    example = torch.zeros(2, size.height, size.width, 3, dtype=torch.uint8)  # one image would fix the batch size
    try:
        with torch.inference_mode(mode=False), quiet_exporter():
            program = torch.onnx.export(
                _FromPixels(embedder).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            if program is None:
                raise RuntimeError("the exporter gave nothing")
            if program.model_proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value:
                raise RuntimeError("the exporter fixed the number of images")
            content: bytes = widen_narrow_maps(without_remarks(program.model_proto)).SerializeToString()
    except Exception as error:  # whatever this pair of torch and onnxscript stumbles over
        raise ModelError(
            f"The model can't be exported: {type(error).__name__}: {one_line(error)[:200]}.",
            "Update with `pip install -U torch onnx onnxscript`, or use --engine torch.",
        ) from error
    return content


def without_remarks(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the remarks (such as source paths) that exporters leave; changed in place."""
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Send what exporting and quantising print to stderr; what they say to developers is not for our users."""
    heard = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(heard)
