"""One training step of a small network, run in a process of its own: LAYERS OUT.npz.

oneDNN is switched on or off by TF_ENABLE_ONEDNN_OPTS before TensorFlow is imported.
"""

from __future__ import annotations

import sys

import numpy as np

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


def one_step(layers) -> dict[str, np.ndarray]:
    """Return the logits of one batch, the gradients, and the statistics after it."""
    import keras
    import tensorflow as tf

    from nasnet_cli.network.layers.keras import build_keras_model, slim_variables

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
    return {
        "logits": logits.numpy(),
        **{f"gradient {n}": g.numpy() for n, g in gradients.items()},
        **{f"statistic {n}": v for n, v in statistics.items()},
    }


if __name__ == "__main__":
    from nasnet_cli.network.layers.keras import KerasLayers
    from nasnet_cli.training.tensorflow_layers import TensorFlowLayers

    known = {"usual": KerasLayers, "fast": TensorFlowLayers}
    np.savez(sys.argv[2], **one_step(known[sys.argv[1]]))
