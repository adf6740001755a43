"""TF2 SavedModels that we write, as their consumers read them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.network.reusable import write_saved_model
from nasnet_cli.network.spec import MOBILE
from nasnet_cli.network.weights import weight_shapes
from support import golden
from support.models import open_saved_model

DATA = "variables/variables.data-00000-of-00001"


def hub():
    with warnings.catch_warnings():
        # tensorflow-hub imports pkg_resources, whose going is announced.
        warnings.simplefilter("ignore")
        import tensorflow_hub

    return tensorflow_hub


@pytest.fixture(scope="module")
def tiny_tf2(tmp_path_factory, tiny_spec):
    folder = tmp_path_factory.mktemp("tf2") / "tiny"
    write_saved_model(folder, tiny_spec, golden.weights(weight_shapes(tiny_spec)))
    return folder


@pytest.fixture(scope="module")
def tiny_tf2_features(tmp_path_factory, tiny_spec):
    folder = tmp_path_factory.mktemp("tf2") / "features"
    shapes = weight_shapes(tiny_spec, classification=False)
    write_saved_model(folder, tiny_spec, golden.weights(shapes), classification=False)
    return folder


def test_hub_load_gives_the_golden_outputs(tmp_path):
    from nasnet_cli.quiet import tf

    expected = golden.outputs("mobile")
    write_saved_model(tmp_path / "mobile", MOBILE, golden.weights(weight_shapes(MOBILE)))
    module = hub().load(str(tmp_path / "mobile"))
    images = tf.constant(golden.noise(2, 224))
    np.testing.assert_allclose(module(images), expected["logits"], rtol=0, atol=1e-5)
    served = module.signatures["serving_default"](images)
    assert set(served) == {"logits", "features"}
    np.testing.assert_allclose(served["logits"], expected["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(served["features"], expected["global_pool"], rtol=0, atol=1e-5)
    # The module's losses add up to what the reference's do (facts: 0.6934).
    losses = [float(loss()) for loss in module.regularization_losses]
    assert sum(losses) == pytest.approx(0.6934, abs=1e-4)


def test_signatures_agree_with_the_tf1_module_of_the_same_weights(tiny_tf2, tiny_module):
    from nasnet_cli.quiet import tf

    images = tf.constant(golden.noise(3, 32))
    forms = ((tiny_tf2, None), (tiny_module, []))
    ours, reference = (tf.saved_model.load(str(f), tags=tags) for f, tags in forms)
    for name in ("default", "image_classification", "image_feature_vector"):
        expected = reference.signatures[name](images)["default"]
        got = ours.signatures[name](images)
        assert set(got) == {"default"}
        np.testing.assert_allclose(got["default"], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours(images), ours(images, training=False))


def test_training_updates_statistics_and_applies_dropout(tiny_tf2):
    from nasnet_cli.quiet import tf

    module = tf.saved_model.load(str(tiny_tf2))
    images = tf.constant(golden.noise(3, 32))
    before = {v.name: v.numpy() for v in module.variables}
    assert not np.array_equal(module(images, training=True), module(images, training=True))
    changed = {v.name for v in module.variables if not np.array_equal(v, before[v.name])}
    statistics = {n for n in before if "moving_" in n}
    assert changed == statistics
    assert {v.name for v in module.trainable_variables} == set(before) - statistics


@pytest.mark.slow
def test_hub_keras_layer_trains(tiny_tf2_features):
    """hub.KerasLayer(trainable=True) under a new head: three steps lower the loss each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras

        # Without its classification layer the module has no dropout, so nothing here is chance.
        layer = hub().KerasLayer(str(tiny_tf2_features), trainable=True)
        head = tf_keras.layers.Dense(7, kernel_initializer="zeros")
        model = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), layer, head])
        assert len(model.losses) == 157
        model.compile(
            tf_keras.optimizers.SGD(0.02),
            tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        images, labels = golden.blocks(8, 32), np.arange(8) % 7
        losses = model.fit(images, labels, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < losses[0] - 0.1
    assert len(layer.trainable_weights) == 323


@pytest.mark.slow
def test_saved_model_cli_runs_the_serving_signature(tiny_tf2, tmp_path):
    np.save(tmp_path / "images.npy", golden.noise(2, 32))
    tool = Path(sys.executable).parent / "saved_model_cli"
    if not tool.exists():
        pytest.skip("saved_model_cli is not installed beside this Python")
    options = {
        "--dir": tiny_tf2,
        "--tag_set": "serve",
        "--signature_def": "serving_default",
        "--inputs": f"images={tmp_path / 'images.npy'}",
        "--outdir": tmp_path,
    }
    flat = [str(part) for pair in options.items() for part in pair]
    subprocess.run([tool, "run", *flat], check=True, capture_output=True)
    assert np.load(tmp_path / "logits.npy").shape == (2, 7)
    assert np.load(tmp_path / "features.npy").shape == (2, 192)


@pytest.mark.slow
def test_a_feature_vector_module_is_smaller_by_its_layer(tiny_tf2, tiny_tf2_features, tiny_spec):
    from nasnet_cli.quiet import tf

    images = tf.constant(golden.noise(2, 32))
    whole, module = (tf.saved_model.load(str(f)) for f in (tiny_tf2, tiny_tf2_features))
    assert set(module.signatures) == {"default", "image_feature_vector", "serving_default"}
    expected = whole.signatures["image_feature_vector"](images)["default"]
    np.testing.assert_allclose(module(images), expected, rtol=0, atol=1e-6)
    layer = (tiny_spec.feature_depth + 1) * tiny_spec.classes
    opened = [open_saved_model(folder) for folder in (tiny_tf2, tiny_tf2_features)]
    assert opened[0].parameters - opened[1].parameters == layer
    assert opened[1].feature_depth == tiny_spec.feature_depth
    numbers = [
        sum(v.numpy().nbytes for v in tf.saved_model.load(str(f)).variables)
        for f in (tiny_tf2, tiny_tf2_features)
    ]
    assert numbers[0] - numbers[1] == 4 * layer
    # The file holds the graph of objects too, so it shrinks by a little more than the weights.
    sizes = [(folder / DATA).stat().st_size for folder in (tiny_tf2, tiny_tf2_features)]
    assert 4 * layer <= sizes[0] - sizes[1] < 4 * layer + 2000


def test_operations_are_safe_and_openvino_runs_it(tiny_tf2, tmp_path):
    moved = shutil.copytree(tiny_tf2, tmp_path / "elsewhere")
    module = open_saved_model(moved)
    assert (module.format, module.tag_sets) == ("saved-model", [["serve"]])
    assert module.unsafe_operations == []
    assert (module.image_size, module.classes, module.output) == ((32, 32), 7, "logits")
    assert str(tiny_tf2.parent).encode() not in (moved / "saved_model.pb").read_bytes()


def test_weights_of_another_network_are_refused(tiny_spec, tmp_path):
    with pytest.raises(ModelError, match="missing"):
        write_saved_model(tmp_path / "m", MOBILE, golden.weights(weight_shapes(tiny_spec)))
    assert not (tmp_path / "m").exists()


def test_a_feature_vector_module_has_no_classes(tiny_spec, tmp_path):
    shapes = weight_shapes(tiny_spec, classification=False)
    write_saved_model(tmp_path / "fv", tiny_spec, golden.weights(shapes), classification=False)
    module = open_saved_model(tmp_path / "fv")
    assert module.classes is None
    assert module.feature_depth == tiny_spec.feature_depth
