"""A new last layer for another maker's SavedModel: a SavedModel that calls theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_cli.atomic import hidden_folder
from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import write_texts
from nasnet_cli.models.export import check_free, publish
from nasnet_cli.models.formats.saved_model import OpenedSavedModel, SavedModel
from nasnet_cli.models.probes import probe_images
from nasnet_cli.results.atomic import errors_in_words
from nasnet_cli.training.head import Head

TOLERANCE = 1e-4
"""The largest difference allowed between the written logits and the head's own, in float32."""


def check_wrappable(module: Any, name: str) -> None:
    """Raise ModelError unless a SavedModel can call the module for feature vectors of floats."""
    if not isinstance(module, OpenedSavedModel) or module.features is None:
        what = "has no feature vector" if isinstance(module, OpenedSavedModel) else "is a file"
        raise ModelError(
            f"The model {name} is not a NASNet-A and {what}, so it cannot get a new last layer.",
            "Train from a NASNet, or from a SavedModel or TF Hub module with feature vectors.",
        )
    if module.features.input.dtype != "float32" or module.image_size is None:
        raise ModelError(
            f"The model {name} takes no float32 images of a fixed size, so it cannot get a new "
            "last layer.",
            "Train from another model.",
        )


def write_wrapped(
    out: Path, module: OpenedSavedModel, head: Head, texts: Mapping[str, str], *, overwrite: bool
) -> None:
    """Write a SavedModel with the module's feature vectors and the head's logits, whole or not at all.

    texts are its card and labels (card.card_texts). The module must be known to be safe. Raises
    ModelError when what was written gives other logits, OutputError when it cannot be written.
    """
    with errors_in_words(out), hidden_folder(out) as staging:
        _write(staging / out.name, module, head)
        write_texts(staging / out.name, texts)
        _check(staging / out.name, module, head)
        check_free(out, SavedModel(), overwrite)
        publish(staging, out, [out.name])


def _write(folder: Path, module: OpenedSavedModel, head: Head) -> None:
    from nasnet_cli.quiet import silence, tf

    choice, size = module.features, module.image_size
    assert choice is not None
    assert size is not None
    with silence():
        inner = tf.saved_model.load(str(module.path), tags=list(module.model.inference.tags))
        run = inner.signatures[choice.signature.name]
        made = tf.Module()
        made.inner = inner
        made.weights = tf.Variable(head.weights, name="head/weights")
        made.biases = tf.Variable(head.biases, name="head/biases")

        def outputs(images: Any) -> dict[str, Any]:
            features = run(**{choice.input.key: images})[choice.output.key]
            return {"features": features, "logits": features @ made.weights + made.biases}

        spec = tf.TensorSpec((None, *size, 3), tf.float32, name="images")

        def signature(**names: str) -> Any:
            @tf.function(input_signature=[spec], autograph=False)
            def call(images: Any) -> dict[str, Any]:
                named = outputs(images)
                return {key: named[name] for key, name in names.items()}

            return call

        @tf.function(input_signature=[spec], autograph=False)
        def call(images: Any) -> Any:
            return outputs(images)["logits"]

        made.__call__ = call
        classify = signature(default="logits")
        tf.saved_model.save(
            made,
            str(folder),
            signatures={
                "default": classify,
                "image_classification": classify,
                "image_feature_vector": signature(default="features"),
                "serving_default": signature(logits="logits", features="features"),
            },
        )


def _check(folder: Path, module: OpenedSavedModel, head: Head) -> None:
    """Run both models on the probe images."""
    size = module.image_size
    assert size is not None
    images = probe_images(max(size))[:, : size[0], : size[1]]
    expected = head.logits(module.run(images)["features"])
    found = SavedModel().open(folder).run(images)["logits"]
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            f"The model with the new last layer differs from it by {difference:.2g}, so it was "
            "not kept.",
            "Train from another model.",
        )
