"""Writes modules in the TF1 Hub format, which tensorflow-hub itself no longer can.

One folder serves all: hub.Module under TensorFlow 1.15 with both tag sets, hub.load under
TensorFlow 2, and OpenVINO as it is. Source of the format: tensorflow-hub 0.12's own modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasnet_cli.network.builder import build_network
from nasnet_cli.network.layers.graph import GraphLayers
from nasnet_cli.network.spec import NASNetA
from nasnet_cli.network.weights import Weights, check_weights, weight_shapes
from nasnet_cli.quiet import tf

# After the quiet import, since this one alone would print TensorFlow's log lines.
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef  # isort: skip
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # isort: skip

v1 = tf.compat.v1

MARKER = b"\x08\x03"
_COLLECTIONS = {
    "variables",
    "trainable_variables",
    "model_variables",
    "regularization_losses",
    "update_ops",
}


def write_tf1_hub(
    folder: Path,
    spec: NASNetA,
    weights: Weights,
    *,
    classification: bool = True,
    training: bool = True,
) -> None:
    """Writes a module into folder, which must be empty or absent.

    weights are the network's arrays by their TF-Slim names. With classification the signatures
    are default, image_classification (logits [batch, classes]) and image_feature_vector
    ([batch, feature_depth]); without it default is the feature vector and the classification
    layer isn't held at all. Without training there is no graph with the tag train, which takes
    half of the time. Raises ModelError when the weights are not this network's.
    """
    check_weights(weights, weight_shapes(spec, classification=classification), "the weights")
    folder.mkdir(parents=True, exist_ok=True)
    model = SavedModel()
    for tags in ((), ("train",)) if training else ((),):
        with v1.Graph().as_default():
            signatures = _build(spec, classification, training="train" in tags)
            model.meta_graphs.append(_meta_graph(tags, signatures, spec))
            if not tags:
                _save_variables(folder / "variables", weights)
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))
    (folder / "tfhub_module.pb").write_bytes(MARKER)


def _build(spec: NASNetA, classification: bool, training: bool) -> dict[str, Any]:
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


def _meta_graph(tags: tuple[str, ...], signatures: dict[str, Any], spec: NASNetA) -> MetaGraphDef:
    meta_graph = v1.train.export_meta_graph(strip_default_attrs=True, clear_devices=True)
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
    """tensorflow-hub's ModuleAttachment{1: key, 2: ImageModuleInfo{1: {1: height, 2: width}}}."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    low, high = size & 0x7F, size >> 7
    varint = bytes([low | 0x80, high]) if high else bytes([low])
    size_message = b"\x08" + varint + b"\x10" + varint
    return field(1, b"image_module_info") + field(2, field(1, size_message))


def _save_variables(folder: Path, weights: Weights) -> None:
    """Saves the default graph's variables, which serve both tag sets."""
    folder.mkdir(exist_ok=True)
    variables = v1.global_variables()
    saver = v1.train.Saver(variables, sharded=True)
    with v1.Session() as session:
        # One run for all: a run apiece takes minutes for a thousand variables.
        values = {v.initializer.inputs[1]: weights[v.op.name] for v in variables}
        session.run([variable.initializer for variable in variables], values)
        saver.save(session, str(folder / "variables"), write_meta_graph=False, write_state=False)
