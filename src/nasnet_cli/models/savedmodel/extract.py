"""Cuts a SavedModel down to a few of its tensors, for a runtime that reads one signature alone.

OpenVINO sees only the signature serving_default where there is one, and where there is none, every
signature as a network of its own. It finds the values of variables by the graph's own operations
for restoring them; those that Keras 3 leaves in a SavedModel restore other variables than the
functions use. TensorFlow 2 goes by the objects that were saved, and so do we.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel.bundle import read_bundle
from nasnet_cli.models.savedmodel.reader import PB, SavedModelFile, Signature
from nasnet_cli.models.savedmodel.schema import attribute, parse
from nasnet_cli.models.savedmodel.signatures import image_input

SIGNATURE = "serving_default"
INPUT = "images"

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VARIABLES = "variables"


def signature_with(model: SavedModelFile, tensor: str) -> tuple[Signature, str]:
    """The signature that gives a tensor, by its name in the graph, and the output's key.

    Raises ModelError when no signature does.
    """
    for signature in model.inference.signatures.values():
        for key, output in signature.outputs.items():
            if output.tensor == tensor:
                return signature, key
    raise _misfit(model, f"no signature gives {tensor}")


def needs_cut(model: SavedModelFile) -> bool:
    """Whether OpenVINO would see another model than what the signatures say.

    A TF1 Hub module is the graph as it stands, and OpenVINO takes any tensor of it.
    """
    return model.has_objects or SIGNATURE in model.inference.signatures


def output_name(index: int) -> str:
    """The name in a cut model's signature of the tensor with this index."""
    return f"output_{index}"


def write_cut(model: SavedModelFile, tensors: Sequence[str], folder: Path) -> None:
    """Writes into folder a SavedModel of what these outputs of signatures need, and no more.

    Its one signature, "serving_default", has an input "images", which is the picture input of all
    the signatures that the tensors come from, and the tensors as outputs under the names that
    output_name gives. The variables are a link to the model's own. Raises ModelError when it can't
    be done.
    """
    source = model.inference.proto
    result = type(model.proto)(saved_model_schema_version=1)
    cut = result.meta_graphs.add()
    cut.meta_info_def.CopyFrom(source.meta_info_def)
    signature = cut.signature_def[SIGNATURE]
    pictures = set()
    for index, tensor in enumerate(tensors):
        found, key = signature_with(model, tensor)
        picture = image_input(found)
        if picture is None:
            raise _misfit(model, f"the signature {found.name!r} has no picture input")
        original = source.signature_def[found.name]
        signature.inputs[INPUT].CopyFrom(original.inputs[picture.key])
        signature.outputs[output_name(index)].CopyFrom(original.outputs[key])
        pictures.add(_node_name(picture.tensor))
    # Without objects the graph's own way of restoring is the one there is.
    own = [] if model.has_objects else [source.saver_def.restore_op_name]
    cut.graph_def.CopyFrom(_needed(source.graph_def, [*tensors, *own]))
    _join(cut.graph_def, pictures, _node_name(signature.inputs[INPUT].name))
    if model.has_objects:
        _restore(model, cut.graph_def)
    (folder / PB).write_bytes(result.SerializeToString())
    if (model.folder / _VARIABLES).is_dir():
        (folder / _VARIABLES).symlink_to((model.folder / _VARIABLES).resolve())


def _needed(graph: Any, roots: Sequence[str]) -> Any:
    """The nodes that these tensors and nodes need, in the graph's order, and their functions."""
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    reached: set[str] = set()
    called: set[str] = set()
    waiting = [*roots]
    calls: list[Any] = []
    while waiting:
        name = _node_name(waiting.pop())
        if name in nodes and name not in reached:
            reached.add(name)
            waiting.extend(nodes[name].input)
            calls.append(nodes[name])
    while calls:
        for name in set(_functions(calls.pop())) - called:
            if name in functions:
                called.add(name)
                calls.extend(functions[name].node_def)
    result = type(graph)()
    # With its other fields, such as its version, that we don't know by name.
    result.CopyFrom(graph)
    result.ClearField("node")
    result.ClearField("library")
    result.node.extend(node for name, node in nodes.items() if name in reached)
    result.library.function.extend(f for name, f in functions.items() if name in called)
    return result


def _functions(node: Any) -> Iterator[str]:
    yield node.op
    for key in node.attr:
        value = node.attr[key]
        if value.HasField("func"):
            yield value.func.name
        for function in value.list.func:
            yield function.name


def _join(graph: Any, pictures: set[str], kept: str) -> None:
    """Gives every node that takes one of several inputs the one that is kept."""
    others = pictures - {kept}
    for node in graph.node:
        for at, tensor in enumerate(node.input):
            if _node_name(tensor) in others:
                node.input[at] = kept
    for at in reversed(range(len(graph.node))):
        if graph.node[at].name in others:
            del graph.node[at]


def _restore(model: SavedModelFile, graph: Any) -> None:
    """Adds to the graph what fills its variables from the checkpoint.

    Nothing runs it: it tells OpenVINO which variable has which name in the checkpoint.
    """
    wanted = [node.name for node in graph.node if node.op == "VarHandleOp"]
    if not wanted:
        return
    variables = _captured(model, graph)
    keys = _checkpoint_keys(model)
    missing = [name for name in wanted if variables.get(name) not in keys]
    if missing:
        raise _misfit(model, f"the variable {missing[0]} is none of the objects that were saved")
    names = [keys[variables[name]].encode() for name in wanted]
    graph.node.add(name="nasnet/prefix", op="Const")
    constant = graph.node.add(name="nasnet/names", op="Const")
    constant.attr["value"].tensor.string_val.extend(names)
    graph.node.add(
        name="nasnet/restore", op="RestoreV2", input=("nasnet/prefix", constant.name, constant.name)
    )
    for index, name in enumerate(wanted):
        # OpenVINO looks for the operation between the two, as TensorFlow's savers have it.
        value = graph.node.add(
            name=f"nasnet/value_{index}", op="Identity", input=(f"nasnet/restore:{index}",)
        )
        graph.node.add(
            name=f"nasnet/assign_{index}", op="AssignVariableOp", input=(name, value.name)
        )


def _captured(model: SavedModelFile, graph: Any) -> dict[str, int]:
    """Which saved object each node is that a signature's function takes beside its arguments."""
    functions = model.inference.proto.object_graph_def.concrete_functions
    found: dict[str, int] = {}
    for node in graph.node:
        name = attribute(node, "f").func.name
        if name in functions:
            bound = functions[name].bound_inputs
            inputs = [_node_name(tensor) for tensor in node.input if not tensor.startswith("^")]
            # They follow the arguments proper.
            found.update(zip(reversed(inputs), reversed(bound), strict=False))
    return found


def _checkpoint_keys(model: SavedModelFile) -> dict[int, str]:
    """The names in the checkpoint of the values of the saved objects, by their numbers.

    The checkpoint has objects with numbers of its own: both are walked from the root along the
    same names, which is how TensorFlow finds one in the other.
    """
    bundle = read_bundle(model.folder / _VARIABLES / "variables")
    try:
        stored = parse("TrackableObjectGraph", bundle.read_string(_OBJECTS)).nodes
    except ValueError:
        raise _misfit(model, "the objects in its checkpoint can't be read") from None
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


def _node_name(tensor: str) -> str:
    """The node of "node:0" or of the control input "^node"."""
    return tensor.removeprefix("^").partition(":")[0]


def _misfit(model: SavedModelFile, problem: str) -> ModelError:
    return ModelError(
        f"The module {model.folder} can't be cut to one signature: {problem}.",
        "Try it with --runtime tensorflow.",
    )
