"""Which of a module's signatures, inputs and outputs to run for what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel.reader import MetaGraph, Signature, Tensor

Purpose = Literal["classification", "feature_vector"]

_NAMED: dict[Purpose, tuple[str, ...]] = {
    "classification": ("logits", "Logits"),
    "feature_vector": ("features", "feature_vector"),
}


@dataclass(frozen=True)
class Choice:
    """What to run for a purpose: a signature, its picture input and its output."""

    signature: Signature
    input: Tensor
    output: Tensor


def pick_signature(graph: MetaGraph, purpose: Purpose) -> Choice:
    """Which signature, input and output give the logits, or the feature vector.

    classification: the first of image_classification, default and serving_default that isn't the
    feature vector's own. feature_vector: image_feature_vector, else an output of default or
    serving_default that is named for features, else default when nothing classifies. The output
    is the key "default", else the only one, else the one named for the purpose; it has one vector
    for each picture. Raises ModelError, with the keys there are, when nothing fits.
    """
    find = _classifying if purpose == "classification" else _describing
    signature = find(graph.signatures)
    if signature is None:
        raise ModelError(
            f"The module {graph.where.parent} has no signature for "
            f"{purpose.replace('_', ' ')}; it has {_listed(graph.signatures)}.",
            "Use a module with the common image signatures of tensorflow-hub.",
        )
    output = _main_output(signature, purpose)
    if output is None:
        raise _misfit(graph, signature, f"the outputs {_listed(signature.outputs)}")
    if output.shape is not None and len(output.shape) != 2:
        raise _misfit(graph, signature, f"an output {output.key!r} of shape {output.shape}")
    picture = image_input(signature)
    if picture is None:
        raise _misfit(graph, signature, f"the inputs {_listed(signature.inputs)}")
    return Choice(signature, picture, output)


def _classifying(signatures: dict[str, Signature]) -> Signature | None:
    describing = signatures.get("image_feature_vector")
    features = _main_output(describing, "feature_vector") if describing else None
    for name in ("image_classification", "default", "serving_default"):
        signature = signatures.get(name)
        if signature is None or set(signature.outputs) <= set(_NAMED["feature_vector"]):
            continue
        output = _main_output(signature, "classification")
        # The default of a module for feature vectors is the features again: in TensorFlow 1 by the
        # same tensor, in TensorFlow 2, where each signature wraps it anew, in the same shape.
        again = (
            output is not None
            and features is not None
            and (
                output.tensor == features.tensor
                or (
                    name != "image_classification"
                    and "image_classification" not in signatures
                    and output.shape == features.shape
                )
            )
        )
        if not again:
            return signature
    return None


def _describing(signatures: dict[str, Signature]) -> Signature | None:
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
        keys = (*_NAMED[purpose], "default")  # it was chosen for such a key, or has none
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return next((outputs[key] for key in keys if key in outputs), None)


def image_input(signature: Signature) -> Tensor | None:
    """The input that takes pictures: the one named images, else the only one that could."""
    if "images" in signature.inputs:
        return signature.inputs["images"]
    fitting = [
        tensor
        for tensor in signature.inputs.values()
        if tensor.dtype == "float32" and tensor.shape is not None and len(tensor.shape) == 4
    ]
    return fitting[0] if len(fitting) == 1 else None


def _misfit(graph: MetaGraph, signature: Signature, has: str) -> ModelError:
    return ModelError(
        f"The signature {signature.name!r} of the module {graph.where.parent} has {has}, which "
        "doesn't say what to run.",
        'A module needs an input "images" (float32 [batch, height, width, 3]) and an output '
        '"default" ([batch, length]).',
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
