"""Read the folder of a SavedModel (a TF1 Hub module or TensorFlow 2's) without TensorFlow.

`read_saved_model` returns the content of saved_model.pb: tag sets, signatures, variables and the
expected image size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel import schema
from nasnet_cli.models.savedmodel.bundle import read_bundle

Shape = tuple[int | None, ...] | None

PB = "saved_model.pb"
INIT_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
"""Entries of signature_def that are operations for the loader, not signatures."""

_FETCH_AGAIN = "Get the model again."
_MAX_BYTES = 2**31 - 1  # protobuf's own limit
# Variables that optimizers leave in a graph: slots are named VARIABLE/Optimizer, their own state
# has a name without a scope.
_OPTIMIZER_VARIABLE = re.compile(
    r"/(Adam|Adam_1|AdaMax|AdaMax_1|Momentum|RMSProp|RMSProp_1|RMSProp_2|Adagrad|Adadelta|"
    r"Adadelta_1|Ftrl|Ftrl_1|ExponentialMovingAverage)$"
    r"|^(global_step|learning_rate|beta1_power|beta2_power)$|^optimizer/"
)
_TRAINING_OBJECTS = {"optimizer", "keras_api", "metrics"}


class Tensor(NamedTuple):
    """An input or output of a signature.

    tensor is its name in the graph, such as "images:0". shape has None for an unknown size and is
    None when the rank is unknown.
    """

    key: str
    tensor: str
    dtype: str
    shape: Shape


class Signature(NamedTuple):
    """A signature and its inputs and outputs by their keys."""

    name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Variable(NamedTuple):
    """A variable of the graph. shape is None when the graph does not state it."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class MetaGraph:
    """A graph of a SavedModel, with the tags by which a loader finds it.

    proto is the MetaGraphDef message, path its file; the properties read proto on first use.
    """

    proto: Any
    path: Path

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tag set, sorted; empty in a TF1 Hub module's inference graph."""
        return tuple(sorted(self.proto.meta_info_def.tags))

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by name, sorted, without those that only a loader calls."""
        protos = self.proto.signature_def
        return {
            name: Signature(name, _tensors(protos[name].inputs), _tensors(protos[name].outputs))
            for name in sorted(protos)
            if name not in INIT_SIGNATURES
        }

    @cached_property
    def image_size(self) -> tuple[int, int] | None:
        """The height and width in pixels from tensorflow-hub's image_module_info, if any.

        Raises ModelError when that attachment is damaged.
        """
        attachments = self.proto.collection_def.get("hub_module_attachments")
        for data in attachments.bytes_list.value if attachments else ():
            try:
                attachment = schema.parse("ModuleAttachment", data)
                if attachment.key != "image_module_info":
                    continue
                size = schema.parse("ImageModuleInfo", attachment.value).default_image_size
            except ValueError:
                raise _damaged(self.path, "an attachment is not readable") from None
            if size.height > 0 and size.width > 0:
                return size.height, size.width
            raise _damaged(self.path, "the expected image size is not positive")
        return None

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the object graph in a TF2 SavedModel, else of the graph.

        Where the objects distinguish them, variables of optimizers and metrics are excluded.
        """
        objects = self.proto.object_graph_def
        return tuple(_object_variables(objects) if objects.nodes else self._graph_variables())

    @cached_property
    def parameters(self) -> int:
        """The number of parameters: the sizes of all floating-point variables.

        Includes variables that are not trainable, such as batch normalisation's statistics, but
        no optimizer's slots, state or moving averages, and no variable of unknown shape. Counters
        and random seeds are integers, so they do not count.
        """
        return sum(
            math.prod(size or 0 for size in variable.shape)
            for variable in self.variables
            if "float" in variable.dtype
            and variable.shape is not None
            and not _OPTIMIZER_VARIABLE.search(variable.name)
        )

    def variable_defs(self, collection: str) -> Iterator[Any]:
        """Yield the VariableDef messages of a collection. Raises ModelError for anything else."""
        if collection not in self.proto.collection_def:
            return
        for data in self.proto.collection_def[collection].bytes_list.value:
            try:
                yield schema.parse("VariableDef", data)
            except ValueError:
                raise _damaged(
                    self.path, f"the collection {collection!r} is not readable"
                ) from None

    def _graph_variables(self) -> Iterator[Variable]:
        variables = self.variable_defs("variables")
        listed = {schema.node_name(variable.variable_name) for variable in variables}
        for node in self.proto.graph_def.node:
            is_variable = node.op in ("VarHandleOp", "VariableV2", "Variable")
            if is_variable and (not listed or node.name in listed):
                dtype = schema.dtype_name(schema.attribute(node, "dtype").type)
                has_shape = "shape" in node.attr
                shape = schema.shape_of(node.attr["shape"].shape) if has_shape else None
                yield Variable(node.name, dtype, shape)


@dataclass(frozen=True, eq=False)
class SavedModelFile:
    """The content of a SavedModel's folder; proto is the SavedModel message."""

    folder: Path
    meta_graphs: tuple[MetaGraph, ...]
    proto: Any

    @cached_property
    def inference(self) -> MetaGraph:
        """The graph to run: tagged {} or {"serve"}, else the one for inference with fewest tags."""
        usable = [graph for graph in self.meta_graphs if "train" not in graph.tags]
        return min(usable, key=lambda graph: (graph.tags not in ((), ("serve",)), len(graph.tags)))

    @property
    def has_objects(self) -> bool:
        """True if TensorFlow 2 saved it, with objects beside the graph."""
        return bool(self.inference.proto.object_graph_def.nodes)


def read_saved_model(folder: Path) -> SavedModelFile:
    """Read a model's folder and check that its variables are complete.

    Raises ModelError when the folder does not exist or has no SavedModel, when a file is damaged
    or missing, and when there is only a training graph, which would run with active dropout.
    """
    proto = _parse(folder)
    graphs = tuple(MetaGraph(graph, folder / PB) for graph in proto.meta_graphs)
    if not graphs:
        raise _damaged(folder / PB, "it has no graphs")
    if all("train" in graph.tags for graph in graphs):
        raise ModelError(
            f"The model {folder} has only a training graph, in which dropout is active.",
            "Use a model that also has an inference graph.",
        )
    checkpoint = folder / "variables" / "variables"
    # In this order, because reading the graphs takes longer.
    if checkpoint.with_suffix(".index").exists() or any(graph.variables for graph in graphs):
        read_bundle(checkpoint).check_complete()
    return SavedModelFile(folder, graphs, proto)


def _tensors(infos: Any) -> dict[str, Tensor]:
    def tensor(key: str, info: Any) -> Tensor:
        dtype, shape = schema.dtype_name(info.dtype), schema.shape_of(info.tensor_shape)
        return Tensor(key, info.name, dtype, shape)

    return {key: tensor(key, infos[key]) for key in sorted(infos)}


def _object_variables(objects: Any) -> Iterator[Variable]:
    """Yield the variables that the root lists, else all that it reaches outside of training.

    The list comes first because Keras' export saves each variable twice, in it and beside it.
    """
    nodes = objects.nodes
    listed = [c.node_id for c in nodes[0].children if c.local_name == "variables"]
    for start in (listed, [0]):
        indices = [i for i in sorted(_reached(nodes, start)) if nodes[i].HasField("variable")]
        if indices:
            break
    for index in indices:
        variable = nodes[index].variable
        dtype, shape = schema.dtype_name(variable.dtype), schema.shape_of(variable.shape)
        yield Variable(variable.name, dtype, shape)


def _reached(nodes: Any, start: list[int]) -> set[int]:
    """Return the objects that can be reached without passing an optimizer or a metric."""
    slots = {slot.slot_variable_node_id for node in nodes for slot in node.slot_variables}
    waiting = [node for node in start if 0 <= node < len(nodes)]
    reached = set(waiting)
    while waiting:
        for child in nodes[waiting.pop()].children:
            known = child.local_name in _TRAINING_OBJECTS or child.node_id in reached
            if not known and 0 <= child.node_id < len(nodes):
                reached.add(child.node_id)
                waiting.append(child.node_id)
    return reached - slots


def _parse(folder: Path) -> Any:
    path = folder / PB
    try:
        if not folder.exists():
            raise ModelError(f"There is no model at {folder}.", "Check the path.")
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder.", f"Use the folder that contains {PB}.")
        _check_form(folder)
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} is over 2 GB, more than a SavedModel can have.", _FETCH_AGAIN)
        return schema.parse("SavedModel", path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions."
        ) from None
    except ValueError:
        raise _damaged(path, "it is not a SavedModel") from None


def _check_form(folder: Path) -> None:
    """Raise ModelError unless every loader would run saved_model.pb, the file that is checked.

    TensorFlow reads saved_model.pb if it exists and saved_model.pbtxt otherwise. Some of its
    loaders prefer the split form, saved_model.cpb, so that is refused beside a .pb too.
    """
    if (folder / "saved_model.cpb").exists():
        raise ModelError(
            f"The model {folder} is split into pieces (saved_model.cpb).",
            "Save it again as one saved_model.pb.",
        )
    if (folder / PB).is_file():
        return
    if (folder / "saved_model.pbtxt").exists():
        raise ModelError(
            f"The model {folder} is in text form (saved_model.pbtxt), which nasnet does not read.",
            "Load it in TensorFlow and save it again, which writes saved_model.pb.",
        )
    raise ModelError(
        f"{folder} is not a model: it has neither saved_model.pb nor saved_model.pbtxt.",
        "Use the folder of a TF1 Hub module or a TF2 SavedModel.",
    )


def _damaged(path: Path, problem: str) -> ModelError:
    return ModelError(f"{path} is damaged: {problem}.", _FETCH_AGAIN)
