"""TensorFlow's faster layers compute what the usual ones do, gradients included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "support" / "training_step.py"


def one_step(layers: str, one_dnn: str, folder: Path) -> dict[str, np.ndarray]:
    """Return what support/training_step.py computes, with oneDNN on ("1") or off ("0")."""
    out = folder / f"{layers}-{one_dnn}.npz"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": one_dnn, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, SCRIPT, layers, out], env=environment, check=True)
    with np.load(out) as saved:
        return dict(saved)


@pytest.mark.slow
@pytest.mark.parametrize("one_dnn", ["0", "1"])
def test_faster_layers_compute_the_same(one_dnn, tmp_path):
    # With oneDNN, TensorFlow 2.21 computes wrong gradients for the usual layers.
    usual, fast = one_step("usual", "0", tmp_path), one_step("fast", one_dnn, tmp_path)
    assert usual.keys() == fast.keys()
    for name, value in usual.items():
        # The fused operation's variance is divided by one less than the number of values.
        tolerance = 0.2 if "variance" in name else 2e-3
        scale = np.abs(value).max() + 1e-6
        np.testing.assert_allclose(fast[name] / scale, value / scale, atol=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 9, 12])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_gradients_are_those_of_the_usual_convolution(size, kernel, stride):
    import tensorflow as tf

    from nasnet_cli.training.tensorflow_layers import depthwise

    random = np.random.default_rng(3)
    x = tf.constant(random.normal(size=(2, size, size, 4)), tf.float32)
    weights = tf.constant(random.normal(size=(kernel, kernel, 4, 1)), tf.float32)
    results = []
    for function in (
        depthwise,
        lambda x, w, s: tf.nn.depthwise_conv2d(x, w, [1, s, s, 1], "SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch((x, weights))
            y = function(x, weights, stride)
            loss = tf.reduce_sum(y * y)
        results.append([y, *tape.gradient(loss, (x, weights))])
    for fast, usual in zip(*results, strict=True):
        np.testing.assert_allclose(fast, usual, rtol=1e-3, atol=1e-3)
