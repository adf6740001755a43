"""Choose the signature, input and output to run for a purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel.reader import MetaGraph, Signature, Tensor

_PIXELS = ("float32", "float16", "bfloat16", "float64", "uint8", "int32", "int64")

Purpose = Literal["classification", "feature_vector"]

_NAMED: dict[Purpose, tuple[str, ...]] = {
    "classification": ("logits", "Logits"),
    "feature_vector": ("features", "feature_vector"),
}


class Choice(NamedTuple):
    """The signature to run for a purpose, with its image input and its output."""

    signature: Signature
    input: Tensor
    output: Tensor


def pick_signature(graph: MetaGraph, purpose: Purpose) -> Choice:
    """Return the signature, input and output for the logits or for the feature vector.

    classification: the first of image_classification, default and serving_default that does not
    return the feature vector. feature_vector: image_feature_vector, else default or
    serving_default with an output named for features, else default if nothing classifies. The
    output is the only one, else "default", else the one named for the purpose; it is
    [batch, length]. Raises ModelError, with the existing keys, when nothing fits.
    """
    find = _classification if purpose == "classification" else _feature_vector
    signature = find(graph.signatures)
    if signature is None:
        raise ModelError(
            f"The model {graph.path.parent} has no signature for "
            f"{purpose.replace('_', ' ')}; it has {_listed(graph.signatures)}.",
            "Use a model with tensorflow-hub's common signatures for images.",
        )
    output = _main_output(signature, purpose)
    if output is None:
        raise _unclear(graph, signature, f"the outputs {_listed(signature.outputs)}")
    if output.shape is not None and len(output.shape) != 2:
        raise _unclear(graph, signature, f"an output {output.key!r} of shape {output.shape}")
    images = image_input(signature)
    if images is None:
        raise _unclear(graph, signature, f"the inputs {_listed(signature.inputs)}")
    return Choice(signature, images, output)


def _classification(signatures: dict[str, Signature]) -> Signature | None:
    feature_vector = signatures.get("image_feature_vector")
    features = _main_output(feature_vector, "feature_vector") if feature_vector else None
    for name in ("image_classification", "default", "serving_default"):
        signature = signatures.get(name)
        if signature is None or set(signature.outputs) <= set(_NAMED["feature_vector"]):
            continue
        if features is None or not _is_same(signature, features, signatures):
            return signature
    return None


def _is_same(signature: Signature, features: Tensor, signatures: dict[str, Signature]) -> bool:
    """Return whether a signature's output is the feature vector again.

    The default signature of a model for feature vectors is: in TensorFlow 1 by the same tensor, in
    TensorFlow 2, where each signature wraps it in a new one, by the same shape.
    """
    output = _main_output(signature, "classification")
    if output is None:
        return False
    same_shape = "image_classification" not in signatures and output.shape == features.shape
    return output.tensor == features.tensor or same_shape


def _feature_vector(signatures: dict[str, Signature]) -> Signature | None:
    if "image_feature_vector" in signatures:
        return signatures["image_feature_vector"]
    for name in ("default", "serving_default"):
        signature = signatures.get(name)
        if signature and set(signature.outputs) & set(_NAMED["feature_vector"]):
            return signature
    return None if "image_classification" in signatures else signatures.get("default")


def _main_output(signature: Signature, purpose: Purpose) -> Tensor | None:
    outputs = signature.outputs
    keys: tuple[str, ...] = ("default", *_NAMED[purpose])
    if purpose == "feature_vector" and signature.name != "image_feature_vector":
        keys = (*_NAMED[purpose], "default")  # the signature was chosen for one of these
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return next((outputs[key] for key in keys if key in outputs), None)


def image_input(signature: Signature) -> Tensor | None:
    """Return the input for images: the one called images, else the only one that fits."""
    if "images" in signature.inputs:
        return signature.inputs["images"]
    candidates = [
        tensor
        for tensor in signature.inputs.values()
        if tensor.dtype in _PIXELS and tensor.shape is not None and len(tensor.shape) == 4
    ]
    return candidates[0] if len(candidates) == 1 else None


def _unclear(graph: MetaGraph, signature: Signature, keys: str) -> ModelError:
    return ModelError(
        f"The signature {signature.name!r} of the model {graph.path.parent} has {keys}, so it is "
        "not clear what to run.",
        'Expected an input "images" (float32 [batch, height, width, 3]) and an output "default" '
        "([batch, length]).",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
