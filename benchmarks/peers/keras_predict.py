"""image_dataset_from_directory and Model.predict with batches of 32, as Keras' guides show.

It decodes and resizes by TensorFlow, whose bilinear doesn't average when it shrinks.
"""

from __future__ import annotations

from pathlib import Path

import keras
from common import arguments, write_top5

given = arguments()
network = keras.saving.load_model(given.model, compile=False)
model = keras.Sequential(
    [keras.layers.CenterCrop(given.size, given.size), keras.layers.Rescaling(1 / 255), network]
)
whole = round(given.size / 0.875)
photos = keras.utils.image_dataset_from_directory(
    given.photos, labels=None, image_size=(whole, whole), batch_size=32, shuffle=False
)
names = [Path(path).name for path in photos.file_paths]
write_top5(given.out, names, model.predict(photos, verbose=0))
