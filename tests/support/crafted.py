"""SavedModels made by hand, for content that no program writes. Nothing here runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasnet_cli.models.savedmodel.schema import message


def node(name: str, op: str, *inputs: str, **attributes: Any) -> Any:
    """Return a NodeDef. An attribute is a function's name, bytes, or an AttrValue's fields."""
    result = message("NodeDef")(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, str):
            result.attr[key].func.name = value
        elif isinstance(value, bytes):
            result.attr[key].s = value
        else:
            result.attr[key].CopyFrom(message("AttrValue")(**value))
    return result


def function(name: str, arguments: Sequence[str], *nodes: Any, **results: str) -> Any:
    """Return a FunctionDef. results are its inner tensors by the names of its outputs."""
    result = message("FunctionDef")(node_def=nodes, ret=results)
    result.signature.name = name
    for argument in arguments:
        result.signature.input_arg.add(name=argument)
    for output in results:
        result.signature.output_arg.add(name=output)
    return result


def tensor(name: str, *sizes: int, dtype: int = 1) -> Any:
    """Return a TensorInfo, float32 by default; -1 is an unknown size."""
    result = message("TensorInfo")(name=name, dtype=dtype)
    for size in sizes:
        result.tensor_shape.dim.add(size=size)
    return result


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    return message("SignatureDef")(inputs=inputs, outputs=outputs)


def classifier(classes: int = 5, output: str = "logits:0") -> Any:
    """Return the signature of a classifier of 8x8 images."""
    images = tensor("images:0", -1, 8, 8, 3)
    return signature({"images": images}, {"default": tensor(output, -1, classes)})


def meta_graph(
    nodes: Sequence[Any] = (),
    functions: Sequence[Any] = (),
    tags: Sequence[str] = (),
    **signatures: Any,
) -> Any:
    """Return a MetaGraphDef, by default with a signature that classifies by "logits:0"."""
    result = message("MetaGraphDef")(signature_def=signatures or {"default": classifier()})
    result.meta_info_def.tags.extend(tags)
    result.graph_def.node.extend(nodes)
    result.graph_def.library.function.extend(functions)
    return result


def write(folder: Path, *graphs: Any) -> Path:
    """Write a SavedModel's folder with these graphs."""
    folder.mkdir(parents=True, exist_ok=True)
    model = message("SavedModel")(saved_model_schema_version=1, meta_graphs=graphs)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))
    return folder
