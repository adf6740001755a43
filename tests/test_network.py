"""The network against the reference: same names, same shapes, same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nasnet_cli.network.spec import MOBILE, SIZES, NASNetA
from nasnet_cli.network.weights import weight_shapes
from support import golden


@pytest.mark.parametrize("size", SIZES)
def test_the_variables_are_the_references_in_name_shape_and_order(size):
    facts = golden.facts(size)
    shapes = weight_shapes(SIZES[size], auxiliary=True)
    main = {k: v for k, v in shapes.items() if not k.startswith("aux_")}
    auxiliary = {k: v for k, v in shapes.items() if k.startswith("aux_")}
    assert [[k, list(v)] for k, v in main.items()] == facts["eval_variables"]
    assert [[k, list(v)] for k, v in auxiliary.items()] == facts["aux_variables"]
    assert sum(int(np.prod(v)) for v in main.values()) == facts["n_params_total"]


@pytest.mark.parametrize("size", SIZES)
def test_keras_network_computes_the_golden_outputs(size):
    from nasnet_cli.network.layers.keras import assign_weights, build_keras_model

    spec, facts, expected = SIZES[size], golden.facts(size), golden.outputs(size)
    model = build_keras_model(spec)
    assign_weights(model, golden.weights(weight_shapes(spec)))
    got = model.predict_on_batch(golden.noise(facts["batch"], spec.image_size))
    _assert_endpoints(got, facts)
    for key, name in (("Logits", "logits"), ("global_pool", "global_pool")):
        np.testing.assert_allclose(got[key], expected[name], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["Predictions"], expected["predictions"], rtol=0, atol=1e-5)
    got = model.predict_on_batch(golden.blocks(facts["batch"], spec.image_size))
    for key, name in (("Logits", "logits_blocks"), ("global_pool", "global_pool_blocks")):
        np.testing.assert_allclose(got[key], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_graph_network_computes_the_golden_outputs(size):
    spec, facts, expected = SIZES[size], golden.facts(size), golden.outputs(size)
    noise, blocks = (
        make(facts["batch"], spec.image_size) for make in (golden.noise, golden.blocks)
    )
    got, _, on_blocks = _run_graph(spec, [noise, blocks])
    _assert_endpoints(got, facts)
    for key, name in (("Logits", "logits"), ("global_pool", "global_pool")):
        np.testing.assert_allclose(got[key], expected[name], rtol=0, atol=1e-5)
        np.testing.assert_allclose(on_blocks[key], expected[f"{name}_blocks"], rtol=0, atol=1e-5)


def _assert_endpoints(got, facts):
    for name, known in facts["endpoints"].items():
        value = got[name]
        assert list(value.shape) == known["shape"], name
        statistics = [value.mean(), value.std(), np.abs(value).max()]
        known_statistics = [known["mean"], known["std"], known["absmax"]]
        # float32 itself has steps of 1e-6 where the values are about ten.
        np.testing.assert_allclose(statistics, known_statistics, rtol=0, atol=1e-5, err_msg=name)
        first = value.ravel()[:8]
        np.testing.assert_allclose(first, known["first8"], rtol=0, atol=1e-5, err_msg=name)


def _run_graph(spec: NASNetA, inputs, *, training=False, auxiliary=False):
    """Endpoints and update values for the first input, endpoints for the second."""
    from nasnet_cli.network.builder import build_network
    from nasnet_cli.network.layers.graph import GraphLayers
    from nasnet_cli.quiet import tf

    v1 = tf.compat.v1
    with v1.Graph().as_default():
        images = v1.placeholder(tf.float32, (None, spec.image_size, spec.image_size, 3))
        layers = GraphLayers(spec, training=training)
        endpoints = build_network(spec, layers, images, auxiliary=auxiliary)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        variables = v1.global_variables()
        with v1.Session() as session:
            values = {
                v.initializer.inputs[1]: golden.weight(v.op.name, tuple(v.shape)) for v in variables
            }
            session.run([v.initializer for v in variables], values)
            first = session.run([endpoints, updates], {images: inputs[0]})[0]
            after = session.run({v.op.name: v for v in variables if "/moving_" in v.op.name})
            second = session.run(endpoints, {images: inputs[1]}) if len(inputs) > 1 else None
    return first, after, second


def _assert_training(got, statistics):
    """statistics: the batch's own mean and variance (Bessel-corrected) by variable name."""
    expected = golden.outputs("mobile")
    limits = {"train_aux_logits": 2e-3, "train_global_pool": 1e-3}
    for (name, limit), key in zip(limits.items(), ("AuxLogits", "global_pool"), strict=True):
        np.testing.assert_allclose(got[key], expected[name], rtol=0, atol=limit)
    checked = [key for key in expected if key.startswith("batchstat:")]
    assert len(checked) == 12
    for key in checked:
        name = key.removeprefix("batchstat:")
        np.testing.assert_allclose(statistics[name], expected[key], rtol=0, atol=1e-4, err_msg=name)


def test_graph_network_trains_as_the_reference_does():
    spec = replace(MOBILE, bn_decay=0.0)  # moving averages become the batch's own statistics
    got, after, _ = _run_graph(
        spec, [golden.noise(2, spec.image_size)], training=True, auxiliary=True
    )
    _assert_training(got, after)


def test_keras_network_trains_as_the_reference_does():
    from nasnet_cli.network.layers.keras import assign_weights, build_keras_model, slim_variables

    spec = replace(MOBILE, bn_decay=0.0)
    model = build_keras_model(spec, auxiliary=True)
    assign_weights(model, golden.weights(weight_shapes(spec, auxiliary=True)))
    endpoints = model(golden.noise(2, spec.image_size), training=True)
    variables = slim_variables(model)
    statistics = {}
    for name, variable in variables.items():
        statistics[name] = np.asarray(variable)
        if name.endswith("moving_variance"):
            # Keras keeps the biased variance, the reference the unbiased one.
            scope = name.rsplit("/", 1)[0]
            statistics[name] = statistics[name] * _bessel(scope)
    _assert_training({k: np.asarray(v) for k, v in endpoints.items()}, statistics)


def _bessel(scope: str) -> float:
    """n / (n - 1) for the values that one channel's statistics of two images are made of."""
    sides = {
        "conv0_bn": 111,
        "cell_stem_1/final_path_bn": 56,
        "cell_stem_1/comb_iter_0/left/bn_sep_5x5_1": 28,
        "cell_5/beginning_bn": 14,
        "cell_11/comb_iter_4/left/bn_sep_3x3_2": 7,
        "aux_7/aux_logits/aux_bn0": 4,
    }
    n = 2 * sides.get(scope, 1000) ** 2
    return n / (n - 1)


def test_mobile_below_67_pixels_has_no_room_for_the_auxiliary_head():
    for size, has in ((67, True), (66, False)):
        shapes = weight_shapes(replace(MOBILE, image_size=size), auxiliary=True)
        assert any(name.startswith("aux_7") for name in shapes) is has


def test_path_dropout_drops_whole_examples_and_keeps_the_mean():
    import keras

    from nasnet_cli.network.layers.keras import PathDropout

    layer = PathDropout(0.6)
    ones = np.ones((4000, 2, 2, 3), np.float32)
    assert np.array_equal(layer(ones, training=False), ones)
    keras.utils.set_random_seed(3)
    kept = np.asarray(layer(ones, training=True))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
    assert (kept == kept[:, :1, :1, :1]).all()
    assert kept.mean() == pytest.approx(1.0, abs=0.05)
    layer.ramp.assign(0.0)
    assert np.array_equal(layer(ones, training=True), ones)


def test_path_dropout_lies_on_every_operation_but_identity():
    from nasnet_cli.network.layers.keras import PathDropout, build_keras_model

    spec = replace(SIZES["cifar"], cells_per_stage=1)
    model = build_keras_model(spec)
    keeps = [layer.keep for layer in model.layers if isinstance(layer, PathDropout)]
    # Normal cells have eight operations that are no identity, reduction cells nine.
    assert len(keeps) == 3 * 8 + 2 * 9
    assert sorted(set(keeps), reverse=True) == pytest.approx([1 - k / 5 * 0.4 for k in range(1, 6)])


def test_keras_on_pytorch_is_refused(monkeypatch):
    import keras

    from nasnet_cli.errors import ModelError
    from nasnet_cli.network.layers.keras import KerasLayers

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ModelError, match=r"pools the edges .* Set KERAS_BACKEND to tensorflow or"):
        KerasLayers(MOBILE)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["cifar", "mobile"])
def test_keras_on_jax_computes_the_golden_outputs(size, tmp_path):
    found = on_backend("jax", tmp_path / "jax.npz", size)
    expected = golden.outputs(size)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["features"], expected["global_pool"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_on_jax_has_the_losses_of_training_on_tensorflow(tmp_path):
    jax, tf = (on_backend(name, tmp_path / f"{name}.npz") for name in ("jax", "tensorflow"))
    assert len(jax["losses"]) == 6
    np.testing.assert_allclose(jax["losses"], tf["losses"], rtol=1e-3)


def on_backend(name: str, out: Path, *size: str) -> dict[str, np.ndarray]:
    """Return what support/backend.py finds on a backend of Keras."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "support.backend", str(out), *size]
    subprocess.run(command, env=environment, cwd=Path(__file__).parent, check=True)
    with np.load(out) as saved:
        return dict(saved)


@pytest.mark.slow
def test_keras_own_nasnet_differs_from_the_reference_by_its_padding_alone():
    """keras.applications pads with zeros before pooling in reduction cells: 5e-2 on the logits."""
    import keras

    from nasnet_cli.network.layers.keras import assign_weights, build_keras_model

    spec = replace(MOBILE, classes=1000)
    weights = golden.weights(weight_shapes(spec))
    theirs = keras.applications.NASNetMobile(weights=None, classifier_activation=None)
    rows = (line.split("\t") for line in _keras_names())
    for layer, name, slim in rows:
        variable = next(v for v in theirs.get_layer(layer).weights if v.name == name)
        variable.assign(weights[slim].reshape(variable.shape))
    ours = build_keras_model(spec)
    assign_weights(ours, weights)
    images = golden.noise(2, spec.image_size)
    difference = np.abs(
        theirs.predict_on_batch(2 * images - 1) - ours.predict_on_batch(images)["Logits"]
    ).max()
    assert 0.03 < difference < 0.06


def _keras_names():
    lines = (golden.DATA / "keras_to_slim_mobile.tsv").read_text().splitlines()[1:]
    return ["\t".join(line.split("\t")[:3]) for line in lines]
