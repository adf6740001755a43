"""Keras' files of NASNet, in the layouts of the years, and those that are made to do harm."""

from __future__ import annotations

import csv
import json
import os
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.keras import Keras
from nasnet_cli.network.keras_names import KerasNames
from nasnet_cli.network.weights import weight_shapes
from support import golden

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("size", ["mobile", "large"])
def test_layer_names_map_to_variables(size):
    with (golden.DATA / f"keras_to_slim_{size}.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = KerasNames(row["keras_layer"] for row in rows)
    for row in rows:
        got = names.variable(row["keras_layer"], row["keras_weight"])
        assert got == row["slim_variable"], row
    for layer in ("block1_conv1", "normal_left3_0", "separable_conv_1_normal_left3_0", "dense"):
        assert names.scope(layer) is None


def tiny_nasnet(keras_package, tiny_spec, **changes):
    """keras.applications' NASNet in the tiny size with golden weights."""
    import importlib

    nasnet = importlib.import_module(f"{keras_package}.src.applications.nasnet").NASNet
    options = {
        "input_shape": (32, 32, 3),
        "penultimate_filters": tiny_spec.feature_depth,
        "num_blocks": 1,
        "stem_block_filters": 32,
        "skip_reduction": False,
        "filter_multiplier": 2,
        "include_top": True,
        "weights": None,
        "input_tensor": None,
        "pooling": None,
        "classes": tiny_spec.classes,
        "default_size": 32,
        **changes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nasnet(*options.values())
    fill(model)
    return model


def fill(model):
    names = KerasNames(layer.name for layer in model.layers)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            leaf = weight.name.rpartition("/")[2].partition(":")[0]
            values.append(golden.weight(names.variable(layer.name, leaf), tuple(weight.shape)))
        layer.set_weights(values)


@pytest.fixture(scope="module")
def keras_3(tiny_spec):
    return tiny_nasnet("keras", tiny_spec)


@pytest.fixture(scope="module")
def keras_2(tiny_spec):
    pytest.importorskip("tf_keras")
    return tiny_nasnet("tf_keras", tiny_spec)


def save(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (model.save_weights if "weights" in path.name else model.save)(path)
    return path


def is_golden(weights, spec, classification=True):
    shapes = weight_shapes(spec, classification=classification)
    assert weights.keys() == shapes.keys()
    return all(np.array_equal(weights[name], golden.weight(name, shapes[name])) for name in shapes)


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras", "a.weights.h5"])
def test_keras_3_layouts(name, keras_3, tiny_spec, tmp_path):
    network = Keras().read_network(save(keras_3, tmp_path / name))
    spec = network.spec
    weights = network.weights
    classification = network.classification
    # Weights alone don't say for which size of images they are.
    size = 224 if "weights" in name else 32
    assert (spec, classification) == (replace(tiny_spec, image_size=size), True)
    assert is_golden(weights, tiny_spec)


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras", "old_weights.h5"])
def test_keras_2_layouts(name, keras_2, tiny_spec, tmp_path):
    network = Keras().read_network(save(keras_2, tmp_path / name))
    spec = network.spec
    weights = network.weights
    classification = network.classification
    size = 224 if "weights" in name else 32
    assert (spec, classification) == (replace(tiny_spec, image_size=size), True)
    assert is_golden(weights, tiny_spec)


def test_without_top(tiny_spec, tmp_path):
    model = tiny_nasnet("keras", tiny_spec, include_top=False)
    network = Keras().read_network(save(model, tmp_path / "no-top.keras"))
    spec = network.spec
    weights = network.weights
    classification = network.classification
    assert (spec.filters, classification) == (tiny_spec.filters, False)
    assert is_golden(weights, tiny_spec, classification=False)


@pytest.fixture(scope="module")
def base(tiny_spec):
    return tiny_nasnet("keras", tiny_spec, include_top=False, pooling="avg")


@pytest.mark.parametrize("name", ["tuned.h5", "tuned.keras", "tuned.weights.h5"])
@pytest.mark.parametrize("nested", [False, True])
def test_fine_tuned_model_with_another_head(name, nested, base, tiny_spec, tmp_path):
    import keras

    head = keras.layers.Dense(3, name="my_head", activation="softmax")
    if nested:
        images = keras.Input((32, 32, 3))
        model = keras.Model(images, head(base(images)))
    else:
        model = keras.Model(base.input, head(base.output))
    network = Keras().read_network(save(model, tmp_path / name))
    spec = network.spec
    weights = network.weights
    classification = network.classification
    assert (spec.classes, classification) == (3, True)
    kernel = weights.pop("final_layer/FC/weights")
    np.testing.assert_array_equal(kernel, head.kernel.numpy())
    del weights["final_layer/FC/biases"]
    assert is_golden(weights, tiny_spec, classification=False)


def test_weights_without_names_are_read_in_keras_order(tmp_path):
    """As Keras 3's first versions wrote them; the order is that of the published size."""
    import keras

    model = keras.applications.NASNetMobile(weights=None, classes=4, input_shape=(224, 224, 3))
    path = save(model, tmp_path / "mobile.weights.h5")
    network = Keras().read_network(path)
    named = network.weights
    with h5py.File(path, "r+") as file:
        taken = [g.attrs.pop("name") for g in walk(file["layers"]) if "name" in g.attrs]
    assert len(taken) > 388
    network = Keras().read_network(path)
    spec = network.spec
    unnamed = network.weights
    assert (spec.cells_per_stage, spec.filters, spec.classes) == (4, 44, 4)
    assert all(np.array_equal(named[name], unnamed[name]) for name in named)
    kernel = model.get_layer("separable_conv_2_normal_left5_12").get_weights()[1]
    name = "cell_11/comb_iter_4/left/separable_3x3_2/pointwise_weights"
    np.testing.assert_array_equal(unnamed[name], kernel)


def walk(group):
    found = []
    group.visititems(lambda _, item: found.append(item))
    return found


@pytest.fixture
def good(keras_3, tmp_path):
    return save(keras_3, tmp_path / "good.h5")


PART = "model_weights/stem_conv1/stem_conv1/kernel"


def test_links_to_other_files_and_soft_links_are_refused(good, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["kernel"] = np.zeros((3, 3, 3, 32), np.float32)
    for link in (h5py.ExternalLink(str(secret), "kernel"), h5py.SoftLink("/model_weights")):
        with h5py.File(good, "r+") as file:
            del file[PART]
            file[PART] = link
        with pytest.raises(ModelError, match=r"link.*kernel.*refused"):
            Keras().read_network(good)


def test_data_in_other_files_is_refused(good, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(4 * 3 * 3 * 3 * 32))
    with h5py.File(good, "r+") as file:
        del file[PART]
        raw = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(PART, (3, 3, 3, 32), np.float32, external=raw)
    with pytest.raises(ModelError, match=r"keeps kernel in another file.*refused"):
        Keras().read_network(good)
    with h5py.File(good, "r+") as file:
        del file[PART]
        layout = h5py.VirtualLayout((3, 3, 3, 32), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 3, 3, 32))
        file.create_virtual_dataset(PART, layout)
    with pytest.raises(ModelError, match=r"keeps kernel in another file.*refused"):
        Keras().read_network(good)


def test_cyclic_groups_are_read(good):
    with h5py.File(good, "r+") as file:
        file["model_weights/stem_bn1/again"] = file["model_weights"]
    Keras().read_network(good)


@pytest.mark.parametrize("name", ["good.h5", "good.keras"])
def test_truncated_file_is_an_error(name, keras_3, tmp_path):
    path = save(keras_3, tmp_path / name)
    size = path.stat().st_size
    for part in (0, 4, 100, size // 2, size - 1000):
        os.truncate(save(keras_3, path) if path.stat().st_size < part else path, part)
        with pytest.raises(ModelError) as caught:
            Keras().read_network(path)
        assert str(path) in str(caught.value)
        path.unlink()
        save(keras_3, path)


def test_error_of_a_truncated_file_has_its_size(good):
    size = good.stat().st_size
    os.truncate(good, size - 1000)
    with pytest.raises(
        ModelError, match=f"good.h5 is cut off: it has {size - 1000} bytes of {size}"
    ):
        Keras().read_network(good)


def test_archive_member_with_a_wrong_checksum_is_an_error(tmp_path):
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"weights" * 100)
    path.write_bytes(path.read_bytes().replace(b"weightsweights", b"weights weight", 1))
    with pytest.raises(
        ModelError, match=r"Bad CRC-32 for file 'model\.weights\.h5'\. Get it again"
    ):
        Keras().read_network(path)


@pytest.mark.parametrize("name", ["model.weights.h5", "more"])
def test_an_archive_that_expands_too_far_is_refused(tmp_path, name):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        if name != "model.weights.h5":
            archive.writestr("model.weights.h5", b"weights")
        with archive.open(name, "w") as member:
            for _ in range(257):
                member.write(bytes(2**20))
    with pytest.raises(ModelError, match=r"bomb\.keras unpacks to over 268,435,456 bytes"):
        Keras().read_network(path)


def test_code_in_a_configuration_is_refused_and_not_run(keras_3, tmp_path):
    import keras

    out = keras.layers.Lambda(lambda x: x * 2)(keras_3.output)
    model = keras.Model(keras_3.input, out)
    for name in ("lambda.h5", "lambda.keras"):
        with pytest.raises(ModelError, match=r"Lambda.*refused"):
            Keras().read_network(save(model, tmp_path / name))


def test_configuration_that_is_not_json_or_too_deep_is_an_error(keras_3, tmp_path):
    path = save(keras_3, tmp_path / "good.keras")
    for text in ("{", "[" * 100_000 + "]" * 100_000):
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bad.keras", "w") as new:
            new.writestr("config.json", text)
            new.writestr("model.weights.h5", old.read("model.weights.h5"))
        with pytest.raises(ModelError, match="is not JSON"):
            Keras().read_network(tmp_path / "bad.keras")


def test_huge_dataset_is_not_read(good):
    with h5py.File(good, "r+") as file:
        del file[PART]
        file.create_dataset(PART, (3, 3, 3, 2**40), np.float32, chunks=(3, 3, 3, 32))
    with pytest.raises(ModelError):
        Keras().read_network(good)


def test_foreign_layers_are_named(keras_3, tmp_path, tiny_spec):
    import keras

    x = keras.layers.Dense(9, name="hidden")(keras_3.layers[-2].output)
    model = keras.Model(keras_3.input, [keras_3.output, keras.layers.Dense(2, name="mine")(x)])
    with pytest.raises(ModelError, match=r"'(hidden|mine)'"):
        Keras().read_network(save(model, tmp_path / "more.keras"))
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ModelError, match="that NASNet doesn't have"):
        Keras().read_network(save(other, tmp_path / "other.keras"))


def test_other_files_are_errors(tmp_path):
    for content in (b"", b"not a model", b"PK\x03\x04 but no archive"):
        (tmp_path / "model.h5").write_bytes(content)
        with pytest.raises(ModelError, match=r"not a whole \.keras file|is damaged or cut off"):
            Keras().read_network(tmp_path / "model.h5")
    with zipfile.ZipFile(tmp_path / "photos.keras", "w") as archive:
        archive.writestr("cat.jpg", b"")
    with pytest.raises(ModelError, match=r"config.json"):
        Keras().read_network(tmp_path / "photos.keras")
    with pytest.raises(ModelError, match="cannot be read"):
        Keras().read_network(tmp_path / "absent.h5")


def test_half_precision_is_read_and_integers_are_not(good):
    with h5py.File(good, "r+") as file:
        values = file[PART][()]
        del file[PART]
        file[PART] = values.astype(np.float16)
    network = Keras().read_network(good)
    weights = network.weights
    assert weights["conv0/weights"].dtype == np.float32
    with h5py.File(good, "r+") as file:
        del file[PART]
        file[PART] = values.astype(np.int8)
    with pytest.raises(ModelError, match="int8"):
        Keras().read_network(good)


def test_configuration_is_not_built(keras_3, tmp_path):
    """A registered name that no one knows would fail if anything were deserialised."""
    path = save(keras_3, tmp_path / "good.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "odd.keras", "w") as new:
        config = json.loads(old.read("config.json"))
        config["module"], config["class_name"] = "os", "system"
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    assert Keras().read_network(tmp_path / "odd.keras").classification
