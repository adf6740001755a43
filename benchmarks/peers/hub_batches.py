"""hub.load with batches of 32 from tf.data, which decodes and resizes ahead in threads of its own.

TensorFlow's bilinear doesn't average when it shrinks.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from common import arguments, write_top5

given = arguments()
classify = hub.load(str(given.model)).signatures["default"]
paths = sorted(given.photos.iterdir())


def pixels(path: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return tf.image.resize(tf.image.central_crop(image, 0.875), (given.size, given.size)) / 255


images = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
images = images.map(pixels, num_parallel_calls=tf.data.AUTOTUNE).batch(32)
logits = [classify(batch)["default"].numpy() for batch in images.prefetch(tf.data.AUTOTUNE)]
write_top5(given.out, [path.name for path in paths], np.concatenate(logits))
