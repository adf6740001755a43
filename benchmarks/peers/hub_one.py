"""hub.load, one photo at a time: what the module's page and TensorFlow Hub's tutorial show."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from common import arguments, load, write_top5

given = arguments()
classify = hub.load(str(given.model)).signatures["default"]
paths = sorted(given.photos.iterdir())
logits = []
for path in paths:
    image = tf.constant(load(path, given.size)[None], tf.float32) / 255
    logits.append(classify(image)["default"].numpy()[0])
write_top5(given.out, [path.name for path in paths], np.stack(logits))
