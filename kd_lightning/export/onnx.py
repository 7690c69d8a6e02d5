"""Write a network as an ONNX file."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import onnx
import torch

from kd_lightning.errors import UserError
from kd_lightning.export.preprocess import put_preprocessing_inside
from kd_lightning.files import atomic_write
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network

OPSET = 18  # the exporter raises lower ones to it, and with a higher one static int8 fails on onnxruntime up to 1.23
OLDEST_RUNTIME = "1.15"  # of onnxruntime, the oldest that all variants were tried with; opset 18 and IR 8 are older
Preprocess = Literal["outside", "inside"]


def export_onnx(network: Network, info: ModelInfo, path: Path, *, preprocess: Preprocess = "outside") -> None:
    """Write ``network`` as one ONNX file in fp32 that takes batches of any size; the network does not change.

    Args:
        network: The network; a copy of it in evaluation mode on the CPU is exported.
        info: What prediction needs; it becomes the file's metadata.
        path: The file to write.
        preprocess: ``outside``: input ``images``, (B, C, S, S) normalized float32; output ``logits``, (B, K).
            ``inside``: input ``pixels``, (B, S, S, C) uint8; output ``probabilities``, (B, K).

    Raises:
        UserError: The exporter cannot translate the network, or the file cannot be written.
    """
    model = _translate(on_cpu(network), info)
    if preprocess == "inside":
        put_preprocessing_inside(model, info)
    with atomic_write(path) as temporary:
        save(model, info, temporary)


def save(model: onnx.ModelProto, info: ModelInfo, path: Path) -> None:
    """Write ``model`` with ``info`` as its metadata to ``path``, in one file that old runtimes read too."""
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    onnx.helper.set_model_props(model, info.to_metadata())
    onnx.save(model, path)


def on_cpu(network: Network) -> Network:
    """Return a float32 copy of the network on the CPU in evaluation mode (no dropout, fixed statistics)."""
    return copy.deepcopy(network).cpu().float().eval()


def _translate(network: Network, info: ModelInfo) -> onnx.ModelProto:
    images = torch.zeros(2, info.in_channels, info.image_size, info.image_size)
    try:
        with silence(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch"},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error  # the exporter's own error has no reason
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        name = network.class_path.rpartition(".")[2]
        raise UserError(
            f"{name} cannot be exported to ONNX ({reason}); write its forward in tensor operations."
        ) from error
    assert program is not None
    model = program.model_proto
    _name_after_layers(model.graph)
    _strip(model.graph)
    return model


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress output, logs and warnings of exporter and quantizer; errors still pass."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        lost = io.StringIO()
        with contextlib.redirect_stdout(lost), contextlib.redirect_stderr(lost), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _name_after_layers(graph: onnx.GraphProto) -> None:
    """Name each node that has weights after its layer, as in ``features.0``, so that reports can name it."""
    weights = {tensor.name: tensor.name.rpartition(".")[0] for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        layer = next((weights[name] for name in node.input if weights.get(name)), None)
        if layer is not None and layer not in taken:
            taken.add(layer)
            node.name = layer


def _strip(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes about the machine: absolute paths of sources, stack traces."""
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node):
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
