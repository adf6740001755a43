"""Extract a few tensors of a SavedModel, for a runtime that reads only one signature.

OpenVINO sees only the signature serving_default if there is one, and otherwise every signature as
a network of its own. It finds the values of variables through the graph's own restore operations;
those that Keras 3 leaves in a SavedModel restore other variables than the functions use.
TensorFlow 2 goes by the saved objects, and so does this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel.bundle import Bundle, read_bundle
from nasnet_cli.models.savedmodel.graph import called_functions
from nasnet_cli.models.savedmodel.reader import PB, SavedModelFile, Signature
from nasnet_cli.models.savedmodel.schema import attribute, data_inputs, node_name, parse
from nasnet_cli.models.savedmodel.signatures import image_input
from nasnet_cli.systems import link_or_copy

SIGNATURE = "serving_default"
INPUT = "images"

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VARIABLES = "variables"


def find_signature(model: SavedModelFile, tensor: str) -> tuple[Signature, str]:
    """Return the signature with an output, by its name in the graph, and the output's key.

    Raises ModelError when no signature has it.
    """
    for signature in model.inference.signatures.values():
        for key, output in signature.outputs.items():
            if output.tensor == tensor:
                return signature, key
    raise _cannot_extract(model, f"no signature has the output {tensor}")


def needs_extraction(model: SavedModelFile) -> bool:
    """Return whether OpenVINO would see another model than the signatures describe.

    A TF1 Hub module is the graph as it stands, and OpenVINO takes any tensor of it.
    """
    return model.has_objects or SIGNATURE in model.inference.signatures


def output_name(index: int) -> str:
    """Return the name, in an extracted model's signature, of the tensor with this index."""
    return f"output_{index}"


def write_extract(model: SavedModelFile, tensors: Sequence[str], folder: Path) -> None:
    """Write to folder a SavedModel with only what these outputs of signatures need.

    Its one signature, serving_default, has the input images, which replaces the image input of
    all signatures that have the tensors, and the tensors as outputs, called by output_name. The
    variables are a link to the model's own. Raises ModelError when this is not possible.
    """
    source = model.inference.proto
    result = type(model.proto)(saved_model_schema_version=1)
    meta_graph = result.meta_graphs.add()
    meta_graph.meta_info_def.CopyFrom(source.meta_info_def)
    signature = meta_graph.signature_def[SIGNATURE]
    inputs = set()
    for index, tensor in enumerate(tensors):
        origin, key = find_signature(model, tensor)
        images = image_input(origin)
        if images is None:
            raise _cannot_extract(model, f"the signature {origin.name!r} has no image input")
        original = source.signature_def[origin.name]
        signature.inputs[INPUT].CopyFrom(original.inputs[images.key])
        signature.outputs[output_name(index)].CopyFrom(original.outputs[key])
        inputs.add(node_name(images.tensor))
    # Without objects the graph's own restore operation is the only one.
    restore = [] if model.has_objects else [source.saver_def.restore_op_name]
    meta_graph.graph_def.CopyFrom(_needed(source.graph_def, [*tensors, *restore]))
    _merge_inputs(meta_graph.graph_def, inputs, node_name(signature.inputs[INPUT].name))
    if model.has_objects:
        _add_restore(model, meta_graph.graph_def)
    (folder / PB).write_bytes(result.SerializeToString())
    if (model.folder / _VARIABLES).is_dir():
        link_or_copy((model.folder / _VARIABLES).resolve(), folder / _VARIABLES)


def _needed(graph: Any, roots: Sequence[str]) -> Any:
    """Return a graph of the nodes and functions that these tensors and nodes need."""
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    reached: set[str] = set()
    called: set[str] = set()
    waiting = [*roots]
    callers: list[Any] = []
    while waiting:
        name = node_name(waiting.pop())
        if name in nodes and name not in reached:
            reached.add(name)
            waiting.extend(nodes[name].input)
            callers.append(nodes[name])
    while callers:
        node = callers.pop()
        for name in {node.op, *called_functions(node.attr)} & functions.keys() - called:
            called.add(name)
            callers.extend(functions[name].node_def)
    result = type(graph)()
    # A copy keeps other fields, such as the version, that the schema does not name.
    result.CopyFrom(graph)
    result.ClearField("node")
    result.ClearField("library")
    result.node.extend(node for name, node in nodes.items() if name in reached)
    result.library.function.extend(f for name, f in functions.items() if name in called)
    return result


def _merge_inputs(graph: Any, inputs: set[str], kept: str) -> None:
    """Replace all input nodes by the one that is kept."""
    others = inputs - {kept}
    for node in graph.node:
        for at, tensor in enumerate(node.input):
            if node_name(tensor) in others:
                node.input[at] = kept
    for at in reversed(range(len(graph.node))):
        if graph.node[at].name in others:
            del graph.node[at]


def _add_restore(model: SavedModelFile, graph: Any) -> None:
    """Add to the graph the operations that fill its variables from the checkpoint.

    Nothing runs them: they tell OpenVINO the names of the variables in the checkpoint.
    """
    variables = [node.name for node in graph.node if node.op == "VarHandleOp"]
    if not variables:
        return
    objects = _captured_objects(model, graph)
    keys = checkpoint_keys(model, read_bundle(model.folder / _VARIABLES / "variables"))
    missing = [name for name in variables if objects.get(name) not in keys]
    if missing:
        raise _cannot_extract(model, f"the variable {missing[0]} is not among the saved objects")
    names = [keys[objects[name]].encode() for name in variables]
    graph.node.add(name="nasnet/prefix", op="Const")
    constant = graph.node.add(name="nasnet/names", op="Const")
    constant.attr["value"].tensor.string_val.extend(names)
    graph.node.add(
        name="nasnet/restore", op="RestoreV2", input=("nasnet/prefix", constant.name, constant.name)
    )
    for index, name in enumerate(variables):
        # OpenVINO expects this operation between the two, as TensorFlow's savers have it.
        value = graph.node.add(
            name=f"nasnet/value_{index}", op="Identity", input=(f"nasnet/restore:{index}",)
        )
        graph.node.add(
            name=f"nasnet/assign_{index}", op="AssignVariableOp", input=(name, value.name)
        )


def _captured_objects(model: SavedModelFile, graph: Any) -> dict[str, int]:
    """Return the numbers of the saved objects that signatures' functions capture, by node."""
    functions = model.inference.proto.object_graph_def.concrete_functions
    objects: dict[str, int] = {}
    for node in graph.node:
        name = attribute(node, "f").func.name
        if name in functions:
            inputs = map(node_name, reversed(data_inputs(node)))
            # Captured tensors come after the arguments.
            objects.update(zip(inputs, reversed(functions[name].bound_inputs), strict=False))
    return objects


def checkpoint_keys(model: SavedModelFile, bundle: Bundle) -> dict[int, str]:
    """Return the names, in the checkpoint, of the saved objects' values, by object number.

    The checkpoint numbers objects in its own way: both are walked from the root along the same
    names, which is how TensorFlow matches them.
    """
    try:
        stored = parse("TrackableObjectGraph", bundle.read_string(_OBJECTS)).nodes
    except ValueError:
        raise ModelError(
            f"The checkpoint {bundle.prefix} is damaged: its objects are not readable.",
            "Get all files of the model again.",
        ) from None
    saved = model.inference.proto.object_graph_def.nodes
    keys: dict[int, str] = {}
    seen: set[int] = set()
    waiting = [(0, 0)]
    while waiting:
        number, other = waiting.pop()
        if number in seen or not (0 <= number < len(saved) and 0 <= other < len(stored)):
            continue
        seen.add(number)
        for value in stored[other].attributes:
            if value.name == "VARIABLE_VALUE" and value.checkpoint_key in bundle.tensors:
                keys[number] = value.checkpoint_key
        children = {child.local_name: child.node_id for child in stored[other].children}
        waiting.extend(
            (child.node_id, children[child.local_name])
            for child in saved[number].children
            if child.local_name in children
        )
    return keys


def _cannot_extract(model: SavedModelFile, problem: str) -> ModelError:
    return ModelError(
        f"Cannot reduce the model {model.folder} to one signature: {problem}.",
        "Try --runtime tensorflow.",
    )
