"""The built-in model names what a photo shows, given the colours in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_cli import load_model
from nasnet_cli.images.preprocess import preprocess

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "espresso.jpg"


def test_an_espresso_is_one_and_with_swapped_channels_is_none(nasnet, tmp_path):
    red, green, blue = Image.open(PHOTO).convert("RGB").split()
    swapped = tmp_path / "swapped.png"
    Image.merge("RGB", (blue, green, red)).save(swapped)
    right, wrong = nasnet("classify", PHOTO, swapped, expect=0).rows
    assert right["predictions"][0]["label"] == "espresso"
    assert right["predictions"][0]["probability"] > 0.4
    assert wrong["predictions"][0]["label"] != "espresso"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_logits_are_those_of_tensorflow_for_the_same_pixels(tmp_path):
    from nasnet_cli.quiet import tf

    image = Image.open(PHOTO).convert("RGB")
    image.save(tmp_path / "same pixels.png")
    model = load_model()
    assert model.preprocessing.dtype == "uint8"
    pixels = preprocess(image, model.preprocessing)[None] / np.float32(255)
    (row,) = model.classify([tmp_path / "same pixels.png"], top=1001, logits=True)
    got = {prediction.index: prediction.logit for prediction in row.predictions}
    signature = tf.saved_model.load(str(model.module.path), tags=[]).signatures["default"]

    def largest_difference(values):
        logits = signature(tf.constant(values))["default"].numpy()[0]
        return max(abs(logits[index] - logit) for index, logit in got.items())

    assert largest_difference(pixels) < 1e-4
    assert largest_difference(pixels[..., ::-1]) > 1
