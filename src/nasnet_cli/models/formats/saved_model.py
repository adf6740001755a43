"""TF2 SavedModels, as hub.load, hub.KerasLayer and TF Serving consume them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import labels_for
from nasnet_cli.models import files
from nasnet_cli.models.card import (
    CARD,
    LABELS,
    Card,
    Labels,
    network_of_card,
    read_card,
    read_module_labels,
    write_texts,
)
from nasnet_cli.models.formats.base import Format, Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.info import OpenedModel
from nasnet_cli.models.outputs import Operation
from nasnet_cli.models.savedmodel.graph import Graph
from nasnet_cli.models.savedmodel.reader import (
    PB,
    SavedModelFile,
    Signature,
    Tensor,
    read_saved_model,
)
from nasnet_cli.models.savedmodel.signatures import Choice, Purpose, pick_signature
from nasnet_cli.models.values import InputValues
from nasnet_cli.systems import temporary_folder

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.models.savedmodel.bundle import Bundle
    from nasnet_cli.network.spec import NASNetA

# The text form and the split form are recognized, to be refused by the reader with a reason.
FILES = (PB, "saved_model.pbtxt", "saved_model.cpb")


@dataclass(frozen=True, eq=False)
class OpenedSavedModel(OpenedModel):
    """A module that was read and checked; what takes time is computed when it is asked for."""

    model: SavedModelFile
    found_labels: tuple[Labels, str] | None = None

    @property
    def tag_sets(self) -> list[list[str]]:
        return [list(graph.tags) for graph in self.model.meta_graphs]

    @property
    def runs_on_tensorflow(self) -> bool:
        return True

    @property
    def signatures(self) -> dict[str, Signature]:
        return self.model.inference.signatures

    @cached_property
    def classification(self) -> Choice | None:
        choice = _choice_if_any(self.model, "classification")
        return None if self.is_feature_vector(choice) else choice

    @cached_property
    def features(self) -> Choice | None:
        found = _choice_if_any(self.model, "feature_vector")
        return (
            found if self.classification else found or _choice_if_any(self.model, "classification")
        )

    def operation_before(self, tensor: str) -> Operation | None:
        return Graph(self.model.inference.proto).before(tensor)

    @property
    def labels_from(self) -> str | None:
        return self.found_labels[1] if self.found_labels else super().labels_from

    def read_values(self) -> InputValues:
        if self.is_hub_module:
            return InputValues("0..1", "rgb", "tensorflow-hub's signatures for images")
        return InputValues().or_stated(*self._stated_values)

    @property
    def is_hub_module(self) -> bool:
        """True if it has tensorflow-hub's signatures for images, which take values of 0 to 1."""
        names = ("image_classification", "image_feature_vector")
        return self.format == "tf1-hub" or any(name in self.signatures for name in names)

    @cached_property
    def _stated_values(self) -> tuple[str | None, str | None]:
        """The range and the channels that the graph begins with, by read_graph."""
        from nasnet_cli.models.openvino_graph import stated_values

        found = self.read_graph("values", stated_values)
        return (found[0], found[1]) if found else (None, None)

    @property
    def parameters(self) -> int:
        return self.model.inference.parameters

    @cached_property
    def file_sizes(self) -> dict[str, int]:
        return files.module_files(self.path)

    @cached_property
    def digest(self) -> str:
        return files.digest(self.path)

    @cached_property
    def unsafe_operations(self) -> list[str]:
        from nasnet_cli.models.safety.scan import unsafe_operations

        return unsafe_operations(self.model)

    def check_whole(self) -> None:
        from nasnet_cli.models.savedmodel.bundle import read_bundle

        prefix = self.path / "variables" / "variables"
        if prefix.with_suffix(".index").exists():
            read_bundle(prefix).check_sums()

    def check_constants(self) -> None:
        from nasnet_cli.models.safety.constants import check_saved_model

        check_saved_model(self.path / PB, [graph.proto for graph in self.model.meta_graphs])

    @contextmanager
    def openvino_model(self, tensors: Sequence[str]) -> Iterator[Any]:
        from nasnet_cli.models.openvino_graph import select_outputs
        from nasnet_cli.models.savedmodel.extract import (
            needs_extraction,
            output_name,
            write_extract,
        )
        from nasnet_cli.quiet import openvino  # noqa: F401  # before its frontend
        from openvino.frontend import FrontEndManager  # isort: skip

        frontend = FrontEndManager().load_by_framework("tf")
        if not needs_extraction(self.model):
            loaded = frontend.load(str(self.path))
            # By tensor name: signatures share output names, and which output gets a shared name
            # changes from process to process.
            places = [loaded.get_place_by_tensor_name(tensor) for tensor in tensors]
            loaded.override_all_outputs(places)
            yield frontend.convert(loaded)
            return
        with temporary_folder() as folder:
            write_extract(self.model, tensors, folder)
            graph = frontend.convert(frontend.load(str(folder)))
            named = {name: i for i, port in enumerate(graph.outputs) for name in port.get_names()}
            yield select_outputs(graph, [named[output_name(i)] for i in range(len(tensors))])

    def run(self, images: np.ndarray) -> Outputs:
        """Run the module's own signatures by TensorFlow. Its operations must be known to be safe."""
        from nasnet_cli.quiet import silence, tf

        v1 = tf.compat.v1
        named = {"logits": self.classification, "features": self.features}
        # A session reads both formats, and several times as fast as tf.saved_model.load.
        with silence(), v1.Session(graph=tf.Graph()) as session:
            v1.saved_model.loader.load(session, list(self.model.inference.tags), str(self.path))
            return {
                name: session.run(choice.output.tensor, {choice.input.tensor: images})
                for name, choice in named.items()
                if choice is not None
            }


class SavedModel(Format):
    """The format of TF2 SavedModels, and what it shares with TF1 Hub modules."""

    name = "saved-model"
    title = "a SavedModel"
    expected = f"the folder of a SavedModel or TF1 Hub module ({PB})"
    is_runnable = True
    is_writable = True

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        folder = path.parent if path.name in FILES and head is not None else path
        return folder if any((folder / name).exists() for name in FILES) else None

    def open(self, path: Path) -> OpenedSavedModel:
        """Open a module, in tens of milliseconds.

        Raises ModelError when it cannot be read, when it has no signature for images, and when it
        contradicts itself: two image sizes, a count of labels that is not that of the classes.
        NasnetError when its labels cannot be read.
        """
        model = read_saved_model(path)
        card = read_card(path)
        size = _image_size(model, card)
        module = OpenedSavedModel(path, self.name, card, read_module_labels(path), size, model)
        if module.labels is None and card is None:
            module = _with_labels(module)
        if module.features is None:
            pick_signature(
                model.inference, "classification"
            )  # so that its error says what is missing
        module.check_labels(path / LABELS)
        return module

    def read_network(self, path: Path) -> Network:
        from nasnet_cli.models.savedmodel.bundle import read_bundle
        from nasnet_cli.network.weights import check_weights, weight_shapes

        module = self.open(path)
        bundle = read_bundle(path / "variables" / "variables")
        keys = _without_prefix(_variable_keys(module.model, bundle))
        shapes = {name: bundle.tensors[key].shape for name, key in keys.items()}
        classification = "final_layer/FC/weights" in shapes
        spec = _network_spec(module, shapes)
        wanted = weight_shapes(spec, classification=classification)
        weights = {name: bundle.read(keys[name]) for name in wanted if name in keys}
        check_weights(weights, wanted, str(path))
        labels = module.labels or (labels_for(spec.classes) if classification else None)
        return Network(path.name, spec, weights, classification, module.card, labels, module)

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        from nasnet_cli.network.reusable import write_saved_model

        spec, weights = network.spec, network.weights
        write_saved_model(path, spec, weights, classification=network.classification)
        write_texts(path, texts)

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run the signature that servers use."""
        from nasnet_cli.quiet import hub, silence, tf

        with silence():
            loaded = hub.load(str(path))
            outputs = loaded.signatures["serving_default"](images=tf.constant(images))
            return {name: tensor.numpy() for name, tensor in outputs.items()}


def _image_size(model: SavedModelFile, card: Card | None) -> tuple[int, int] | None:
    """Return the one size that the attachment, the signatures and the card agree on."""
    sizes: dict[str, tuple[int, int]] = {}
    if model.inference.image_size:
        sizes["its attachment"] = model.inference.image_size
    for purpose in ("classification", "feature_vector"):
        choice = _choice_if_any(model, purpose)
        size = choice and _static_size(model.folder, choice.input)
        if choice and size:
            sizes[f"its signature {choice.signature.name!r}"] = size
    if card is not None and "size" in card.preprocessing:
        height, width = card.preprocessing["size"]
        sizes[f"its card ({CARD})"] = (height, width)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{h}x{w} in {place}" for place, (h, w) in sizes.items())
        raise ModelError(
            f"The model {model.folder} gives more than one image size: {listed}.",
            "Get the model again, or correct its card.",
        )
    return next(iter(sizes.values()), None)


def _static_size(folder: Path, images: Tensor) -> tuple[int, int] | None:
    if images.shape is None:
        return None
    if len(images.shape) != 4 or images.shape[3] not in (3, None):
        raise ModelError(
            f"The model {folder} takes {images.key!r} of shape {images.shape}.",
            "Use a model for color images, [batch, height, width, 3].",
        )
    _, height, width, _ = images.shape
    return (height, width) if height and width else None


def _with_labels(module: OpenedSavedModel) -> OpenedSavedModel:
    """Return a module of another maker with the labels in a file in or beside its folder."""
    from nasnet_cli.models.found_labels import labels_beside

    length = module.classification and module.classification.output.shape
    count = length[-1] if length else None
    found = labels_beside(module.path, 2 if count == 1 else count)
    return replace(module, labels=found[0], found_labels=found) if found else module


def _choice_if_any(model: SavedModelFile, purpose: Purpose) -> Choice | None:
    try:
        return pick_signature(model.inference, purpose)
    except ModelError:
        return None


def _network_spec(module: OpenedSavedModel, shapes: Mapping[str, tuple[int, ...]]) -> NASNetA:
    """Return the network that a module's variables and its card describe."""
    from nasnet_cli.network.weights import network_of

    spec = network_of(shapes, str(module.path))
    if module.image_size is not None:
        height, width = module.image_size
        if height != width:
            raise ModelError(
                f"{module.path} takes images of {height}x{width} pixels.", "NASNet's are square."
            )
        spec = replace(spec, image_size=height)
    if module.card is not None and module.card.network is not None:
        spec = network_of_card(module.card, spec, module.path)
    return spec


def _variable_keys(model: SavedModelFile, bundle: Bundle) -> dict[str, str]:
    """Return the variables' keys in the checkpoint by their names, which TensorFlow 1 uses itself."""
    if not model.has_objects:
        return {key: key for key in bundle.tensors}
    from nasnet_cli.models.savedmodel.extract import checkpoint_keys

    nodes = model.inference.proto.object_graph_def.nodes
    return {
        nodes[number].variable.name.partition(":")[0]: key
        for number, key in checkpoint_keys(model, bundle).items()
        if nodes[number].HasField("variable")
    }


def _without_prefix(keys: Mapping[str, str]) -> dict[str, str]:
    """Remove the scope in which the network was saved, e.g. "module/", from the names."""
    for name in keys:
        if match := re.fullmatch(r"(.+/)(?:conv0|l1_stem_3x3)/weights", name):
            prefix = match[1]
            return {n.removeprefix(prefix): k for n, k in keys.items() if n.startswith(prefix)}
    return dict(keys)
