"""All that a module says about itself, as plain data."""

from __future__ import annotations

from typing import Any

from nasnet_cli.models.info import INPUT_RANGE, OpenedModel
from nasnet_cli.models.savedmodel.reader import Signature, Tensor


def description(module: OpenedModel) -> dict[str, Any]:
    """What `nasnet inspect --json` prints about a module, beside what identifies it.

    Shapes are lists with None for an open size. parameters counts numbers, multiply_adds is for
    one picture, file_sizes are bytes.
    """
    card = module.card
    counted = module.multiply_adds
    return {
        "tag_sets": module.tag_sets,
        "signatures": {name: _signature(s) for name, s in module.signatures.items()},
        "image_size": list(module.image_size) if module.image_size else None,
        "image_range": list(INPUT_RANGE),
        "output": module.output,
        "classes": module.classes,
        "labels": len(module.labels) if module.labels is not None else None,
        "feature_depth": module.feature_depth,
        "parameters": module.parameters,
        "multiply_adds": counted.total if counted else None,
        "multiply_adds_depthwise": counted.depthwise if counted else None,
        "file_sizes": module.file_sizes,
        "unsafe_operations": module.unsafe_operations,
        "network": card.network if card else None,
        "accuracy": card.accuracy if card else None,
        "source": card.source if card else None,
        "licence": card.licence if card else None,
        "written_by": card.tool if card else None,
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {key: _tensor(tensor) for key, tensor in signature.inputs.items()},
        "outputs": {key: _tensor(tensor) for key, tensor in signature.outputs.items()},
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "tensor": tensor.tensor,
        "dtype": tensor.dtype,
        "shape": None if tensor.shape is None else list(tensor.shape),
    }
