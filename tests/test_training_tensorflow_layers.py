"""TensorFlow's faster layers compute what the usual ones do, gradients included."""

from __future__ import annotations

import numpy as np
import pytest

from nasnet_cli.network.spec import NASNetA, Stem

NETWORK = NASNetA(
    image_size=40,
    cells_per_stage=1,
    filters=8,
    classes=5,
    stem=Stem("conv0", "conv0_bn", 6, stride=2, padding="same", cells=1),
    dropout_keep=1.0,
    bn_decay=0.9,
    weight_decay=0.01,
)


def one_step(layers):
    """Return the logits and the gradients of one batch, and the statistics after it."""
    import keras
    import tensorflow as tf

    from nasnet_cli.network.keras_layers import build_keras_model, slim_variables

    keras.utils.set_random_seed(1)
    model = build_keras_model(NETWORK, layers=layers(NETWORK))
    random = np.random.default_rng(2)
    images = random.random((4, 40, 40, 3), np.float32)
    variables = slim_variables(model)
    for name, variable in variables.items():
        values = random.normal(0, 0.3, variable.shape)
        variable.assign(np.abs(values) + 0.5 if name.endswith(("gamma", "variance")) else values)
    trained = {n: v.value for n, v in variables.items() if v.trainable}
    with tf.GradientTape() as tape:
        logits = model(images, training=True)["Logits"]
        loss = keras.ops.mean(logits**2) + sum(model.losses)
    gradients = tape.gradient(loss, trained)
    statistics = {n: v.numpy() for n, v in variables.items() if not v.trainable}
    return {"": logits.numpy()}, {n: g.numpy() for n, g in gradients.items()}, statistics


@pytest.mark.filterwarnings("ignore")
def test_faster_layers_compute_the_same():
    from nasnet_cli.network.keras_layers import KerasLayers
    from nasnet_cli.training.tensorflow_layers import TensorFlowLayers

    for usual, fast in zip(one_step(KerasLayers), one_step(TensorFlowLayers), strict=True):
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
