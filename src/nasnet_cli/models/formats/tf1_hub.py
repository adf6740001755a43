"""TF1 Hub modules, which tensorflow-hub itself no longer writes.

One folder serves all: hub.Module under TensorFlow 1.15 with both tag sets, hub.load under
TensorFlow 2, and OpenVINO as it is. Source of the format: tensorflow-hub 0.12's own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.models.card import write_texts
from nasnet_cli.models.formats.base import Network, Outputs
from nasnet_cli.models.formats.names import Precision
from nasnet_cli.models.formats.saved_model import SavedModel
from nasnet_cli.models.savedmodel.reader import PB
from nasnet_cli.models.savedmodel.schema import message

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.network.spec import NASNetA
    from nasnet_cli.network.weights import Weights

_MARKER_FILE, _MARKER = "tfhub_module.pb", b"\x08\x03"
_COLLECTIONS = {
    "variables", "trainable_variables", "model_variables", "regularization_losses", "update_ops",
}  # fmt: skip


class TF1Hub(SavedModel):
    """The format of SavedModels with tensorflow-hub's marker."""

    name = "tf1-hub"
    title = "a TF1 Hub module"

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        folder = super().detect(path, head)
        marker = folder / _MARKER_FILE if folder else None
        is_module = marker and marker.is_file() and marker.read_bytes() == _MARKER
        return folder if is_module else None

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        write_tf1_hub(path, network.spec, network.weights, classification=network.classification)
        write_texts(path, texts)

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a module in a session, as TensorFlow 1 does."""
        return self.open(path).run(images)


def write_tf1_hub(
    folder: Path,
    spec: NASNetA,
    weights: Weights,
    *,
    classification: bool = True,
    training: bool = True,
) -> None:
    """Write a module into folder, which must be empty or absent.

    weights are the network's arrays by their TF-Slim names. With classification the signatures
    are default, image_classification (logits [batch, classes]) and image_feature_vector
    ([batch, feature_depth]); without it default is the feature vector and the classification
    layer isn't held at all. Without training there is no graph with the tag train, which takes
    half of the time. Raises ModelError when the weights are not this network's.
    """
    from nasnet_cli.network.weights import check_weights, weight_shapes
    from nasnet_cli.quiet import tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as Proto  # isort: skip

    check_weights(weights, weight_shapes(spec, classification=classification), "the weights")
    folder.mkdir(parents=True, exist_ok=True)
    model = Proto()
    for tags in ((), ("train",)) if training else ((),):
        with tf.Graph().as_default():
            signatures = _build(spec, classification, training="train" in tags)
            model.meta_graphs.append(_meta_graph(tags, signatures, spec))
            if not tags:
                _save_variables(folder / "variables", weights)
    (folder / "assets").mkdir(exist_ok=True)
    (folder / PB).write_bytes(model.SerializeToString(deterministic=True))
    (folder / _MARKER_FILE).write_bytes(_MARKER)


def _build(spec: NASNetA, classification: bool, training: bool) -> dict[str, Any]:
    from nasnet_cli.network.builder import build_network
    from nasnet_cli.network.layers.graph import GraphLayers
    from nasnet_cli.quiet import tf

    v1 = tf.compat.v1
    shape = (None, spec.image_size, spec.image_size, 3)
    images = v1.placeholder(tf.float32, shape, name="images")
    layers = GraphLayers(spec, training=training)
    endpoints = build_network(spec, layers, images, classification=classification)
    features = endpoints["global_pool"]
    inner = {k: v for k, v in endpoints.items() if k not in ("Logits", "Predictions")}
    signatures = {"image_feature_vector": (images, {"default": features, **inner})}
    if classification:
        signatures["default"] = (images, {"default": endpoints["Logits"]})
        signatures["image_classification"] = (images, {"default": endpoints["Logits"], **endpoints})
    else:
        signatures["default"] = (images, {"default": features})
    return {
        name: v1.saved_model.signature_def_utils.build_signature_def(
            {"images": v1.saved_model.utils.build_tensor_info(source)},
            {key: v1.saved_model.utils.build_tensor_info(value) for key, value in outputs.items()},
            "",
        )
        for name, (source, outputs) in signatures.items()
    }


def _meta_graph(tags: tuple[str, ...], signatures: dict[str, Any], spec: NASNetA) -> Any:
    """Return a MetaGraphDef of the default graph."""
    from nasnet_cli.quiet import tf

    meta_graph = tf.compat.v1.train.export_meta_graph(strip_default_attrs=True, clear_devices=True)
    meta_graph.meta_info_def.tags.extend(tags)
    for name, signature in signatures.items():
        meta_graph.signature_def[name].CopyFrom(signature)
    # hub.Module raises on a collection that it doesn't know.
    for name in set(meta_graph.collection_def) - _COLLECTIONS:
        del meta_graph.collection_def[name]
    attachments = meta_graph.collection_def["hub_module_attachments"].bytes_list.value
    attachments.append(_image_size_attachment(spec.image_size))
    for node in meta_graph.graph_def.node:
        # TensorFlow 1.15 refuses a graph with attributes that it doesn't know.
        if node.op == "VarHandleOp" and "debug_name" in node.attr:
            del node.attr["debug_name"]
    return meta_graph


def _image_size_attachment(size: int) -> bytes:
    """Return tensorflow-hub's ModuleAttachment with the size of the images."""
    info = message("ImageModuleInfo")(default_image_size={"height": size, "width": size})
    attachment = message("ModuleAttachment")(
        key="image_module_info", value=info.SerializeToString()
    )
    return bytes(attachment.SerializeToString())


def _save_variables(folder: Path, weights: Weights) -> None:
    """Save the default graph's variables, which serve both tag sets."""
    from nasnet_cli.quiet import silence_errors, tf

    v1 = tf.compat.v1
    folder.mkdir(exist_ok=True)
    variables = v1.global_variables()
    saver = v1.train.Saver(variables, sharded=True)
    with silence_errors(), v1.Session() as session:
        # One run for all: a run apiece takes minutes for a thousand variables.
        values = {v.initializer.inputs[1]: weights[v.op.name] for v in variables}
        session.run([variable.initializer for variable in variables], values)
        saver.save(session, str(folder / "variables"), write_meta_graph=False, write_state=False)
