"""Reads a SavedModel's folder, TF1 Hub module or TF2, without TensorFlow.

`read_saved_model` gives what saved_model.pb says: tag sets, signatures, variables, the expected
image size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel import schema
from nasnet_cli.models.savedmodel.bundle import read_bundle

Format = Literal["tf1-hub", "saved-model"]
Shape = tuple[int | None, ...] | None

PB = "saved_model.pb"
HUB_MARKER = ("tfhub_module.pb", b"\x08\x03")
INIT_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
"""Entries of signature_def that are operations for the loader and no signatures."""

_SIZE_LIMIT = 2**31 - 1  # protobuf's own
# What optimizers and their like leave among a graph's variables: slots are named
# VARIABLE/Optimizer, their own state is a plain name at the top.
_SLOT = re.compile(
    r"/(Adam|Adam_1|AdaMax|AdaMax_1|Momentum|RMSProp|RMSProp_1|RMSProp_2|Adagrad|Adadelta|"
    r"Adadelta_1|Ftrl|Ftrl_1|ExponentialMovingAverage)$"
    r"|^(global_step|learning_rate|beta1_power|beta2_power)$|^optimizer/"
)
_NOT_OF_THE_MODEL = {"optimizer", "keras_api", "metrics"}


@dataclass(frozen=True)
class Tensor:
    """One input or output of a signature.

    tensor is its name in the graph, such as "images:0"; shape has None for a size that is open
    and is None when even the rank is.
    """

    key: str
    tensor: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Signature:
    """A signature: its inputs and outputs by their keys."""

    name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Variable:
    """A variable of the graph; shape is None when the graph doesn't say it."""

    name: str
    dtype: str
    shape: Shape
    trainable: bool


@dataclass(frozen=True, eq=False)
class MetaGraph:
    """One graph of a SavedModel, with the tags by which a loader finds it.

    proto is the MetaGraphDef message; everything else is read from it when asked for.
    """

    proto: Any
    where: Path

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tag set, sorted; empty in a TF1 Hub module's graph for inference."""
        return tuple(sorted(self.proto.meta_info_def.tags))

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by name, sorted; those that only a loader calls are left out."""
        found = self.proto.signature_def
        return {
            name: Signature(name, _tensors(found[name].inputs), _tensors(found[name].outputs))
            for name in sorted(found)
            if name not in INIT_SIGNATURES
        }

    @cached_property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels from tensorflow-hub's image_module_info attachment, if any.

        Raises ModelError when the attachment is broken.
        """
        attachments = self.proto.collection_def.get("hub_module_attachments")
        for data in attachments.bytes_list.value if attachments else ():
            try:
                attachment = schema.parse("ModuleAttachment", data)
                if attachment.key != "image_module_info":
                    continue
                size = schema.parse("ImageModuleInfo", attachment.value).default_image_size
            except ValueError:
                raise _corrupt(self.where, "an attachment") from None
            if size.height > 0 and size.width > 0:
                return size.height, size.width
            raise _corrupt(self.where, "the expected image size")
        return None

    @cached_property
    def collections(self) -> dict[str, tuple[str, ...]]:
        """The names in each collection of nodes or variables, e.g. "update_ops"."""
        result = {}
        for name in sorted(self.proto.collection_def):
            collection = self.proto.collection_def[name]
            if name.endswith("variables"):
                result[name] = tuple(v.variable_name for v in self.variable_defs(name))
            elif collection.HasField("node_list"):
                result[name] = tuple(collection.node_list.value)
        return result

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The variables: the object graph's in a TF2 SavedModel, else the graph's own.

        Optimizers' and metrics' own variables are left out where the objects tell them apart.
        """
        objects = self.proto.object_graph_def
        return tuple(_object_variables(objects) if objects.nodes else self._graph_variables())

    @cached_property
    def parameters(self) -> int:
        """How many numbers the model's variables hold.

        Counted are the floating-point variables, trainable or not (so batch normalisation's
        statistics too), but not an optimizer's slots and state or moving averages beside them.
        Counters and random seeds are integers. A variable of unknown shape counts as nothing.
        """
        return sum(
            math.prod(size or 0 for size in variable.shape)
            for variable in self.variables
            if "float" in variable.dtype
            and variable.shape is not None
            and not _SLOT.search(variable.name)
        )

    def variable_defs(self, collection: str) -> Iterator[Any]:
        """The VariableDef messages of a collection. Raises ModelError when they aren't that."""
        if collection not in self.proto.collection_def:
            return
        for data in self.proto.collection_def[collection].bytes_list.value:
            try:
                yield schema.parse("VariableDef", data)
            except ValueError:
                raise _corrupt(self.where, f"the collection {collection!r}") from None

    def _graph_variables(self) -> Iterator[Variable]:
        names = self.collections
        trainable = set(names.get("trainable_variables", ()))
        listed = {name.partition(":")[0] for name in names.get("variables", ())}
        for node in self.proto.graph_def.node:
            if node.op not in ("VarHandleOp", "VariableV2", "Variable"):
                continue
            if listed and node.name not in listed:
                continue
            yield Variable(
                node.name,
                schema.dtype_name(schema.attribute(node, "dtype").type),
                schema.shape_of(node.attr["shape"].shape) if "shape" in node.attr else None,
                f"{node.name}:0" in trainable,
            )


@dataclass(frozen=True, eq=False)
class SavedModelFile:
    """What a SavedModel's folder holds.

    format is "tf1-hub" for a module with tensorflow-hub's marker; proto is the SavedModel message.
    """

    folder: Path
    format: Format
    meta_graphs: tuple[MetaGraph, ...]
    proto: Any

    @cached_property
    def inference(self) -> MetaGraph:
        """The graph to run: the one tagged {} or {"serve"}, else the first not for training."""
        usable = [graph for graph in self.meta_graphs if "train" not in graph.tags]
        return min(usable, key=lambda graph: (graph.tags not in ((), ("serve",)), len(graph.tags)))

    @property
    def has_objects(self) -> bool:
        """Whether it was saved by TensorFlow 2, with objects beside the graph."""
        return bool(self.inference.proto.object_graph_def.nodes)


def read_saved_model(folder: Path) -> SavedModelFile:
    """Reads a module's folder and checks that its variables are there whole.

    Raises ModelError when there is no such folder or no module in it, when a file is broken or
    missing, and when it holds only a graph for training, which would run with its dropout live.
    """
    proto = _parse(folder)
    graphs = tuple(MetaGraph(graph, folder / PB) for graph in proto.meta_graphs)
    if not graphs:
        raise _corrupt(folder / PB, "the list of graphs (there is none)")
    if all("train" in graph.tags for graph in graphs):
        raise ModelError(
            f"The module {folder} holds only a graph for training, whose dropout is live.",
            "Use a module that has a graph for inference too.",
        )
    checkpoint = folder / "variables" / "variables"
    # In this order: looking through the graphs takes longer.
    if checkpoint.with_suffix(".index").exists() or any(graph.variables for graph in graphs):
        read_bundle(checkpoint).check_complete()
    marker, content = HUB_MARKER
    is_hub = (folder / marker).is_file() and (folder / marker).read_bytes() == content
    return SavedModelFile(folder, "tf1-hub" if is_hub else "saved-model", graphs, proto)


def _tensors(infos: Any) -> dict[str, Tensor]:
    return {
        key: Tensor(
            key,
            infos[key].name,
            schema.dtype_name(infos[key].dtype),
            schema.shape_of(infos[key].tensor_shape),
        )
        for key in sorted(infos)
    }


def _object_variables(objects: Any) -> Iterator[Variable]:
    """The variables that the root lists as its own, else all that it reaches but for optimizers'.

    The list comes first because Keras' export saves each variable twice, in it and beside it.
    """
    nodes = objects.nodes
    listed = [c.node_id for c in nodes[0].children if c.local_name == "variables"]
    for start in (listed, [0]):
        found = [i for i in sorted(_reached(nodes, start)) if nodes[i].HasField("variable")]
        if found:
            break
    for index in found:
        variable = nodes[index].variable
        yield Variable(
            variable.name,
            schema.dtype_name(variable.dtype),
            schema.shape_of(variable.shape),
            variable.trainable,
        )


def _reached(nodes: Any, start: list[int]) -> set[int]:
    """Objects that can be reached without passing through an optimizer or a metric."""
    slots = {slot.slot_variable_node_id for node in nodes for slot in node.slot_variables}
    waiting = [node for node in start if 0 <= node < len(nodes)]
    reached = set(waiting)
    while waiting:
        for child in nodes[waiting.pop()].children:
            known = child.local_name in _NOT_OF_THE_MODEL or child.node_id in reached
            if not known and 0 <= child.node_id < len(nodes):
                reached.add(child.node_id)
                waiting.append(child.node_id)
    return reached - slots


def _parse(folder: Path) -> Any:
    path = folder / PB
    try:
        if not folder.exists():
            raise ModelError(f"There is no module at {folder}.", "Check the path.")
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder.", f"Give the folder that holds {PB}.")
        _refuse_other_forms(folder)
        if path.stat().st_size > _SIZE_LIMIT:
            raise ModelError(f"{path} is over 2 GB.", "No SavedModel is; get the module again.")
        return schema.parse("SavedModel", path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path} can't be read: {error.strerror}.", "Check the path and its permissions."
        ) from None
    except ValueError:
        raise _corrupt(path, "the file") from None


def _refuse_other_forms(folder: Path) -> None:
    """Leaves only saved_model.pb, so that what we have read is what a loader would run.

    TensorFlow reads saved_model.pb when it is there and saved_model.pbtxt otherwise; its split
    form, saved_model.cpb, comes first in some of its loaders, so it is refused beside a .pb too.
    """
    if (folder / "saved_model.cpb").exists():
        raise ModelError(
            f"The module {folder} is split into pieces (saved_model.cpb).",
            "Save it again as one saved_model.pb.",
        )
    if (folder / PB).is_file():
        return
    if (folder / "saved_model.pbtxt").exists():
        raise ModelError(
            f"The module {folder} is in text form (saved_model.pbtxt), which is not read.",
            "Load it in TensorFlow and save it again, which writes saved_model.pb.",
        )
    raise ModelError(
        f"{folder} holds no module: neither saved_model.pb nor saved_model.pbtxt is there.",
        "Give the folder of a TF1 Hub module or a TF2 SavedModel.",
    )


def _corrupt(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path} is broken: {what} can't be read.", "Get the module again; the file is damaged."
    )
