"""Compare nasnet with each format's own runtime on small models of other makers, made at random.

    make fuzz            or: python tests/faults/fuzz_makers.py [--models N] [--seed S] [--form F]

A model draws its form (ONNX, TFLite, SavedModel), the type of its images, the values that it takes,
its layout, its batch, what its output is and what stands behind that. nasnet must give the
probabilities of ONNX Runtime, TensorFlow Lite's interpreter or TensorFlow on the same pixels, or
refuse the model with a ModelError. Anything else is a failure, printed with the number that
makes the model again.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from nasnet_cli.errors import ModelError  # noqa: E402
from nasnet_cli.model import load_model  # noqa: E402
from support.others import lite, lite_outputs, write_onnx  # noqa: E402

IMAGES = 12
Array = np.ndarray


@dataclass(frozen=True)
class Made:
    """A model, its own runtime's outputs for the images, and what these are.

    values are those that it takes, and step is the distance of two neighbouring outputs of a
    quantized model, 0 for floats.
    """

    path: Path
    drawn: str
    values: str
    outputs: Array
    output: str
    step: float = 0.0


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


MEANINGS: dict[str, Callable[[Array], Array]] = {
    "logits": softmax,
    "softmax": lambda y: y,
    "log_softmax": np.exp,
    "sigmoid": lambda y: np.hstack([1 - y, y]) if y.shape[1] == 1 else y,
}
SCALINGS = {"0..1": None, "0..255": (1 / 255, 0.0), "0..255 to -1..1": (1 / 127.5, -1.0)}


def pixels(height: int, width: int) -> Array:
    """Return images [n, height, width, 3] of bytes: noise, and half of them of one colour."""
    made = np.random.RandomState(8).randint(0, 256, (IMAGES, height, width, 3)).astype(np.uint8)
    made[::2] = made[::2, :1, :1]
    return made


def onnx(draw: random.Random, folder: Path) -> Made:
    import onnxruntime

    output = draw.choice(list(MEANINGS))
    classes = 1 if output == "sigmoid" and draw.random() < 0.4 else 5
    tail: list[tuple[str, dict]] = {
        "logits": [],
        "softmax": [("Softmax", {"axis": 1})],
        "log_softmax": [("LogSoftmax", {"axis": 1})],
        "sigmoid": [("Sigmoid", {})],
    }[output]
    # Integers between the end and the output would make steps of logarithms and logits.
    behind = ["Identity", "Reshape"] + (["integers"] if output in ("softmax", "sigmoid") else [])
    for name in draw.sample(behind, draw.randrange(len(behind))):
        integers = [("QuantizeLinear", {}), ("DequantizeLinear", {})]
        tail = tail + (integers if name == "integers" else [(name, {})])
    dtype, values = draw.choice(
        [*(("FLOAT", name) for name in SCALINGS), ("UINT8", "0..255"), ("INT32", "0..255")]
    )
    batch = draw.choice(["n", 1, 4])
    first, opset = draw.random() < 0.5, draw.choice([13, 15, 17])
    path = write_onnx(
        folder / "m.onnx",
        tail,
        batch=batch,
        channels_first=first,
        scaling=SCALINGS[values],
        dtype=dtype,
        opset=opset,
        classes=classes,
    )
    images = pixels(8, 12)
    given = images / np.float32(255) if values == "0..1" else images
    given = given.astype({"FLOAT": np.float32, "UINT8": np.uint8, "INT32": np.int32}[dtype])
    given = np.ascontiguousarray(given.transpose(0, 3, 1, 2)) if first else given
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [given] if batch == "n" else np.split(given, IMAGES // batch)
    outputs = np.concatenate([session.run(None, {"x": part})[0] for part in parts])
    operations = [name for name, _ in tail]
    drawn = f"ONNX {dtype} {values} batch {batch} first {first} opset {opset} {operations}"
    return Made(path, drawn, values, outputs, output)


def tflite(draw: random.Random, folder: Path) -> Made:
    quantized = draw.choice([None, "weights", "uint8", "int8"])
    activation = draw.choice(["softmax", "sigmoid", "linear"])
    classes = draw.choice([1, 5]) if activation == "sigmoid" else 5
    values = draw.choice(list(SCALINGS))
    scaling = SCALINGS[values]
    integers = quantized not in (None, "weights")
    batch = 1 if integers else draw.choice([1, None])
    content = lite(
        quantized=quantized,
        activation=activation,
        scaling=scaling,
        high=1.0 if scaling is None else 255.0,
        classes=classes,
        batch=batch,
    )
    path = folder / "m.tflite"
    path.write_bytes(content)
    images = pixels(16, 16)
    given = {
        "uint8": lambda: images,
        "int8": lambda: (images.astype(np.int16) - 128).astype(np.int8),
    }.get(
        quantized or "",
        lambda: (images / 255 if scaling is None else images).astype(np.float32),
    )()
    outputs, step = lite_outputs(content, given)
    output = "logits" if activation == "linear" else activation
    drawn = f"TFLite {quantized} {values} batch {batch} {activation} {classes}"
    return Made(path, drawn, values, outputs, output, step)


def saved_model(draw: random.Random, folder: Path) -> Made:
    import keras

    from nasnet_cli.quiet import silence, tf

    activation = draw.choice(["softmax", "sigmoid", "linear", "log_softmax"])
    classes = draw.choice([1, 5]) if activation == "sigmoid" else 5
    dtype = draw.choice(["float32", "uint8"])
    values = "0..255" if dtype == "uint8" else draw.choice(list(SCALINGS))
    scaling = SCALINGS[values]
    keras.utils.set_random_seed(draw.randrange(1000))
    layers: list = [keras.Input((16, 16, 3), dtype=dtype)]
    if scaling is not None:
        layers.append(keras.layers.Rescaling(*scaling))
    layers += [
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalAveragePooling2D(),
    ]
    separate = draw.random() < 0.5
    layers.append(keras.layers.Dense(classes, activation=None if separate else activation))
    if separate:
        layers.append(keras.layers.Activation(activation))
    images = pixels(16, 16)
    given = images if dtype == "uint8" else images.astype(np.float32)
    given = given / np.float32(255) if values == "0..1" else given
    with silence():
        network = keras.Sequential(layers)
        network.export(folder / "m", verbose=False)
        loaded = tf.saved_model.load(folder / "m")
        outputs = loaded.serve(given).numpy()
    output = "logits" if activation == "linear" else activation
    drawn = f"SavedModel {dtype} {values} {activation} {classes} separate {separate}"
    return Made(folder / "m", drawn, values, outputs, output)


FORMS = {"onnx": onnx, "tflite": tflite, "saved-model": saved_model}


@functools.cache
def photos(folder: Path, height: int, width: int) -> Path:
    """Write the images as files; return their folder."""
    images = folder / f"{height}x{width}"
    images.mkdir()
    for i, image in enumerate(pixels(height, width)):
        Image.fromarray(image).save(images / f"{i:02}.png")
    return images


def nasnet(made: Made, images: Path) -> Array:
    """Return nasnet's probabilities [n, classes], in the order of the classes."""
    preprocessing = {"crop_fraction": 1.0, "resample": "nearest"}
    model = load_model(made.path, preprocessing=preprocessing)
    if model.inspect()["input_range_from"] == "assumed":
        # A converter may hide the scaling in the first convolution's weights; then a user names it.
        named = {"input_range": made.values.split()[0]}
        model = load_model(made.path, preprocessing=preprocessing | named)
    rows = []
    for record in model.classify([images], top=1000):
        if record.error is not None:
            raise AssertionError(record.error)
        rows.append([p.probability for p in sorted(record.predictions, key=lambda p: p.index)])
    return np.array(rows)


def compare(made: Made, got: Array) -> str | None:
    """Return how nasnet's probabilities differ from the runtime's, None if they don't."""
    expected = MEANINGS[made.output](made.outputs)
    if got.shape != expected.shape:
        return f"{got.shape[1]} classes for {expected.shape[1]}"
    difference = float(np.abs(got - expected).max())
    if difference > 1e-3 + made.step:
        return f"probabilities differ by {difference:.2g}"
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > max(2 * made.step, 2e-6)
    if not np.array_equal(got.argmax(1)[clear], expected.argmax(1)[clear]):
        return "another best class"
    return None


def run(models: int, seed: int, forms: list[str]) -> int:
    """Make and compare the models; return the number of failures."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for number in range(seed, seed + models):
            draw = random.Random(number)
            form = draw.choice(forms)
            folder = root / str(number)
            folder.mkdir()
            made = FORMS[form](draw, folder)
            size = (8, 12) if form == "onnx" else (16, 16)
            try:
                problem = compare(made, nasnet(made, photos(root, *size)))
            except ModelError as refused:
                counts[f"{form} refused"] += 1
                print(f"{number}: {made.drawn}: refused: {refused}", flush=True)
                continue
            except Exception as error:  # a failure of any kind is reported with its number
                problem = f"{type(error).__name__}: {error}"
            counts[f"{form} agreed" if problem is None else "failed"] += 1
            if problem is not None:
                print(f"{number}: {made.drawn}: {problem}", flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return counts["failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--form", choices=FORMS, action="append", dest="forms")
    options = parser.parse_args()
    sys.exit(run(options.models, options.seed, options.forms or list(FORMS)) > 0)


if __name__ == "__main__":
    main()
