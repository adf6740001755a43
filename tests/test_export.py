"""nasnet export: each format is run by its own runtime, and only a correct file is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nasnet_cli.errors import ModelError, OutputError
from nasnet_cli.labels import Label
from nasnet_cli.model import load_model
from nasnet_cli.models.card import Card, read_card, read_module_labels, write_card
from nasnet_cli.models.export import compare, export
from nasnet_cli.models.formats.base import Network
from nasnet_cli.models.formats.table import FORMATS, WRITABLE, format_for
from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
from nasnet_cli.network.spec import MOBILE
from nasnet_cli.network.weights import weight_shapes
from support import golden
from support.cli import exit_status
from support.models import load_network
from test_slim import save_checkpoint

NAMES = {
    "tf1-hub": "module",
    "saved-model": "module2",
    "keras": "model.keras",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "openvino": "model.xml",
}

# Those from which the network can be read again.
READABLE = ("tf1-hub", "saved-model", "keras")

# What TensorFlow's own interpreter and Keras say of themselves; all of it goes nowhere in a run.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_help_names_the_formats_that_can_be_written():
    assert {name for name, entry in FORMATS.items() if entry.is_writable} == set(WRITABLE)


def test_each_format_has_the_name_of_its_line_in_the_table():
    assert [entry.name for entry in FORMATS.values()] == list(FORMATS)


def outputs(form, path, images):
    """Return the outputs of a written file, by its own runtime."""
    return FORMATS[form].run(path, images, classification=True)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tiny_module):
    """The tiny module with a card and labels."""
    folder = shutil.copytree(tiny_module, tmp_path_factory.mktemp("labelled") / "tiny")
    labels = [Label(f"n{i:08}", f"thing {i}, naïve") for i in range(7)]
    accuracy = {"dataset": "made up", "pictures": 10, "top1": 0.5, "top5": 0.9}
    said = {"resize": "crop", "crop_fraction": 0.5, "resample": "bicubic"}
    said |= {"input_range": "-1..1", "channels": "bgr"}
    write_card(folder, Card("tiny thing", preprocessing=said, accuracy=accuracy), labels)
    return folder


@pytest.mark.parametrize("form", ["keras", "tflite", "onnx"])
def test_formats_written_from_weights_give_the_golden_outputs(form, tmp_path):
    """The other three are held to the same data in test_tf1_hub and test_tf2_saved_model."""
    path = tmp_path / NAMES[form]
    network = Network("golden", MOBILE, golden.weights(weight_shapes(MOBILE)), True)
    FORMATS[form].write(path, network, {}, "f32")
    is_golden(outputs(form, path, golden.noise(2, 224)))


@pytest.mark.slow
def test_golden_outputs_survive_a_chain_of_all_formats(tmp_path):
    """Checkpoint -> tf1-hub -> saved-model -> keras -> the three that hold no training weights.

    The links are in the ordinary run: the mobile network's golden outputs in each form (above, in
    test_tf1_hub and in test_tf2_saved_model), and weights that go through all forms unchanged.
    """
    source = tmp_path / "model.ckpt"
    save_checkpoint(source, golden.weights(weight_shapes(MOBILE)))
    for form, name in NAMES.items():
        FORMATS[form].write(tmp_path / name, load_network(source), {}, "f32")
        is_golden(outputs(form, tmp_path / name, golden.noise(2, 224)))
        if form in READABLE:
            source = tmp_path / name


def is_golden(got):
    expected = golden.outputs("mobile")
    np.testing.assert_allclose(got["logits"], expected["logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(got["features"], expected["global_pool"], rtol=0, atol=1e-4)


def test_export_in_a_process_keeps_tensorflow_quiet(labelled, tmp_path):
    command = [sys.executable, "-m", "nasnet_cli", "export", tmp_path / "m.tflite"]
    done = subprocess.run(
        [*command, "--precision", "f16", "--json", "-m", labelled],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert found["agreement"] >= 0.9
    assert 0 < found["largest_difference"] < 0.1
    card = json.loads((tmp_path / "m.tflite.nasnet.json").read_text())
    assert card["export"]["precision"] == "f16"
    assert card["export"]["agreement"] == found["agreement"]
    assert (tmp_path / "m.tflite").stat().st_size < 320_000  # half of the weights' 386 kB, and code


RUN_ALL = """
import json, sys
from nasnet_cli.cli.main import run
for arguments in json.loads(sys.argv[1]):
    try: run(arguments)
    except SystemExit as done: assert done.code == 0, arguments
"""


@pytest.fixture(scope="module")
def chain(labelled, tmp_path_factory):
    """A folder with every form, each exported by the command from the one before."""
    folder = tmp_path_factory.mktemp("chain")
    source, commands = labelled, []
    for form, name in NAMES.items():
        commands.append(["export", str(folder / name), "--format", form, "-m", str(source)])
        if form in READABLE:
            source = folder / name
    command = [sys.executable, "-c", RUN_ALL, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True)
    return folder, done


@pytest.mark.slow
def test_export_of_each_format_prints_one_line(chain):
    """And leaves nothing but what it is for."""
    folder, done = chain
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    for line, name in zip(printed, NAMES.values(), strict=True):
        assert line.startswith(f"{folder / name}: largest difference ")
        assert line.endswith(" on 16 images (tolerance 0.0001)")
    files = [file for form, name in NAMES.items() for file in FORMATS[form].written_names(name)]
    assert names_in(folder) == sorted(files)


@pytest.mark.slow
def test_each_format_computes_the_same_as_the_first(labelled, chain, tiny_spec):
    """Not only what the one before it did, which is checked when it is made."""
    folder, _ = chain
    images = golden.noise(2, tiny_spec.image_size)
    first = outputs("tf1-hub", labelled, images)
    for form, name in NAMES.items():
        assert compare(first, outputs(form, folder / name, images), 1e-4).passed, form


@pytest.mark.slow
def test_weights_pass_through_the_formats_unchanged(labelled, chain):
    folder, _ = chain
    first = load_network(labelled).weights
    for form in READABLE:
        weights = load_network(folder / NAMES[form]).weights
        assert weights.keys() == first.keys()
        assert all(np.array_equal(weights[name], value) for name, value in first.items())


@pytest.mark.slow
def test_card_and_labels_pass_through_the_formats(labelled, chain, tiny_spec):
    folder, _ = chain
    labels = read_module_labels(labelled)
    cards = [read_card(folder / NAMES[form]) for form in ("tf1-hub", "saved-model")]
    in_keras = load_network(folder / "model.keras")
    sidecar = json.loads((folder / "model.tflite.nasnet.json").read_text())
    for card in (*cards, in_keras.card):
        assert card.name == "tiny thing"
        assert card.preprocessing == {
            "size": [32, 32],
            "resize": "crop",
            "crop_fraction": 0.5,
            "resample": "bicubic",
            "input_range": "-1..1",
            "channels": "bgr",
        }
        assert card.network == tiny_spec.to_dict()
        assert (card.accuracy["top1"], card.output) == (0.5, "logits")
    assert sidecar["name"] == "tiny thing"
    assert in_keras.labels == read_module_labels(folder / "module") == labels
    table = (labelled / "assets.extra" / "labels.tsv").read_text()
    assert (folder / "model.tflite.labels.tsv").read_text() == table
    assert onnx_metadata(folder / "model.onnx")["nasnet/assets.extra/labels.tsv"] == table
    assert rt_info(folder / "model.xml", "labels.tsv") == table
    assert json.loads(rt_info(folder / "model.xml", "nasnet.json"))["name"] == "tiny thing"


def onnx_metadata(path):
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def rt_info(path, key):
    from nasnet_cli.quiet import openvino

    return openvino.Core().read_model(path).get_rt_info(["nasnet", key]).astype(str)


@pytest.mark.slow
def test_plain_keras_loads_and_trains_the_keras_file(chain):
    """Load it in a process that has never heard of this package."""
    folder, _ = chain
    code = (
        "import keras, numpy as np, sys\n"
        "model = keras.saving.load_model('model.keras')\n"
        "model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
        "model.fit(np.random.rand(4, 32, 32, 3), np.arange(4), verbose=0)\n"
        "assert not [m for m in sys.modules if m.startswith('nasnet')]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_network_with_path_dropout_keeps_its_settings(small_cifar, tmp_path):
    """Its keep probabilities and batch norm's epsilon are known by the card alone."""
    spec = replace(small_cifar, classes=10, bn_epsilon=0.02)
    write_tf1_hub(tmp_path / "cifar", spec, golden.weights(weight_shapes(spec)))
    write_card(tmp_path / "cifar", Card("cifar", network=spec.to_dict()), None)
    source = tmp_path / "cifar"
    for form in ("keras", "onnx"):
        network = load_network(source)
        assert network.spec == spec
        export(network, tmp_path / NAMES[form], FORMATS[form])
        source = tmp_path / NAMES[form]


@pytest.mark.slow
def test_feature_vector_export_drops_the_classification_layer(tiny_module, tmp_path, tiny_spec):
    source = tiny_module
    old = shutil.copytree(tiny_module, tmp_path / NAMES["tf1-hub"])
    (old / "old file").touch()
    # From the features alone, features can be had again.
    for form in ("saved-model", "tf1-hub", "keras", "onnx"):
        out = tmp_path / NAMES[form]
        network = load_network(source)
        export(network, out, FORMATS[form], kind="feature-vector", overwrite=form == "tf1-hub")
        if form != "onnx":
            read = load_network(out)
            assert (read.classification, read.labels) == (False, None)
            assert "final_layer/FC/weights" not in read.weights
            source = out
    assert not (old / "old file").exists()  # a module that is written over is gone, whole
    assert names_in(tmp_path) == sorted(
        NAMES[form] for form in ("saved-model", "tf1-hub", "keras", "onnx")
    )
    with pytest.raises(ModelError, match="no classification layer"):
        export(load_network(source), tmp_path / "again", FORMATS["tf1-hub"])
    layer = 4 * (tiny_spec.feature_depth + 1) * tiny_spec.classes
    data = "variables/variables.data-00000-of-00001"
    sizes = [(folder / data).stat().st_size for folder in (tiny_module, tmp_path / "module")]
    assert sizes[0] - sizes[1] == layer


def test_module_that_only_classifies_exports_feature_vectors(tiny_module, tmp_path):
    from nasnet_cli.models.savedmodel import schema

    folder = shutil.copytree(tiny_module, tmp_path / "classifier")
    model = schema.parse("SavedModel", (folder / "saved_model.pb").read_bytes())
    for graph in model.meta_graphs:
        del graph.signature_def["image_feature_vector"]
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    network = load_network(folder)
    check = export(network, tmp_path / "fv.onnx", FORMATS["onnx"], kind="feature-vector")
    assert check.largest_difference < 1e-4


def test_module_that_computes_something_else_is_not_exported(tiny_spec, tmp_path, capfd):
    """The same variables in a graph of another build: told by running both."""
    other = replace(tiny_spec, bn_epsilon=0.1)
    write_tf1_hub(tmp_path / "other", other, golden.weights(weight_shapes(other)))
    before = names_in(tmp_path)
    assert exit_status("export", tmp_path / "out.onnx", "-m", tmp_path / "other") == 1
    printed, said = capfd.readouterr()
    assert printed == ""
    assert said.count("\n") == 1
    assert "differs from it by" in said and "not kept" in said
    assert names_in(tmp_path) == before


@pytest.mark.slow
def test_existing_output_is_replaced_only_with_overwrite_and_by_its_kind(chain, tmp_path):
    network = load_network(chain[0] / "model.onnx")  # which has no module to be run beside it
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with pytest.raises(OutputError, match="already exists"):
        export(network, out, FORMATS["onnx"])
    assert out.read_text() == "old"
    export(network, out, FORMATS["onnx"], overwrite=True)
    assert out.stat().st_size > 100_000
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("a cat")
    for form, name in (("tf1-hub", "photos"), ("onnx", "photos.onnx")):
        if form == "onnx":
            (tmp_path / "photos").rename(tmp_path / "photos.onnx")
        with pytest.raises(OutputError, match=r"not replaced|is a folder"):
            export(network, tmp_path / name, FORMATS[form], overwrite=True)
        assert (tmp_path / name / "cat.jpg").read_text() == "a cat"
    assert names_in(tmp_path) == ["m.onnx", "photos.onnx"]


def test_missing_folder_is_a_one_line_error(tiny_module, tmp_path, capfd):
    assert exit_status("export", tmp_path / "no" / "m.onnx", "-m", tiny_module) == 1
    said = capfd.readouterr().err
    assert f"m.onnx cannot be written: there is no folder {tmp_path / 'no'}." in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out"], "name the format with --format"),
        (["out.onnx", "--format", "keras"], "must end in .keras"),
        (["out.onnx", "--precision", "f16"], "f16 is for tflite"),
        (["..", "--format", "tf1-hub"], "not a name for a new file"),
        ([".onnx"], "must end in .onnx"),
    ],
)
def test_usage_errors(arguments, sentence, capfd):
    assert exit_status("export", *arguments) == 2
    assert sentence in capfd.readouterr().err


def test_suffixes_name_formats():
    found = [format_for(name) for name in NAMES.values()]
    names = [entry.name if entry else None for entry in found]
    assert names == [None, None, "keras", "tflite", "onnx", "openvino"]


def test_sources_are_recognized_by_their_content(tmp_path, tiny_spec, tiny_module):
    weights = golden.weights(weight_shapes(tiny_spec))
    (tmp_path / "slim").mkdir()
    save_checkpoint(tmp_path / "slim" / "model.ckpt", weights)
    named = "slim/model.ckpt", "slim/model.ckpt.index", "slim"
    for path in (*(tmp_path / name for name in named), tiny_module):
        read = load_network(path)
        assert read.classification and read.weights.keys() == weights.keys()
        assert all(np.array_equal(read.weights[name], weights[name]) for name in weights)
    # Variables don't say the image size; a module does.
    assert load_network(tmp_path / "slim").spec.image_size == 224
    assert load_network(tiny_module).spec == tiny_spec


def test_unrecognized_source_lists_the_formats(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "empty").mkdir()
    for name in ("cat.jpg", "empty"):
        with pytest.raises(ModelError, match=r"Expected one of: .*Keras.*checkpoint"):
            load_network(tmp_path / name)
    with pytest.raises(ModelError, match="There is no model"):
        load_network(tmp_path / "absent")


def test_keras_weights_of_1000_classes_have_labels_without_a_background(tiny_spec, tmp_path):
    from test_keras_files import save, tiny_nasnet

    model = tiny_nasnet("keras", tiny_spec, classes=1000)
    network = load_network(save(model, tmp_path / "k.keras"))
    assert network.spec.classes == len(network.labels) == 1000
    assert network.labels[0].wnid == "n01440764"


def test_module_with_scoped_variables_is_read(tmp_path, tiny_spec):
    """As TF2 modules are that were made from a graph which a module was imported into."""
    from nasnet_cli.network.layers.function import make_variables
    from nasnet_cli.network.reusable import _reusable, _signatures
    from nasnet_cli.quiet import tf

    weights = golden.weights(weight_shapes(tiny_spec))
    variables = make_variables(weights)
    scoped = {
        name: tf.Variable(v, name=f"module/{name}", trainable=v.trainable)
        for name, v in variables.items()
    }
    module = _reusable(tiny_spec, scoped, True)
    tf.saved_model.save(module, str(tmp_path / "m"), _signatures(module, tiny_spec, True))
    read = load_network(tmp_path / "m")
    assert read.weights.keys() == weights.keys()
    assert all(np.array_equal(read.weights[name], weights[name]) for name in weights)


def test_comparison_rejects_nan_and_other_shapes():
    expected = {"logits": np.zeros((2, 3), np.float32)}
    wrong = np.array([[0, 0, np.nan], [0, 0, 0]], np.float32)
    assert not compare(expected, {"logits": wrong}, 1e-4).passed
    assert not compare(expected, {"logits": np.zeros((2, 1))}, 1e-4).passed
    assert compare(expected, {"logits": np.full((2, 3), 5e-5)}, 1e-4).passed
    assert not compare(expected, {"logits": np.full((2, 3), 2e-4)}, 1e-4).passed
    # Large values are rounded more coarsely; infinite ones allow nothing.
    large = {"logits": np.full((2, 3), 50.0)}
    assert compare(large, {"logits": large["logits"] + 4e-4}, 1e-4).passed
    assert not compare(large, {"logits": large["logits"] + 6e-4}, 1e-4).passed
    infinite = {"logits": np.full((2, 3), np.inf)}
    assert not compare(infinite, {"logits": np.zeros((2, 3))}, 1e-4).passed


@pytest.mark.slow
def test_stem_is_taken_from_the_card(tiny_spec, tmp_path, cache_folder):
    """As in the built-in model: its first convolution pads, where the published one doesn't."""
    stem = replace(tiny_spec.stem, padding="same", stride=1, cells=1)
    spec = replace(tiny_spec, stem=stem, image_size=16)
    write_tf1_hub(tmp_path / "module", spec, golden.weights(weight_shapes(spec)))
    write_card(tmp_path / "module", Card("small", network=spec.to_dict()), None)
    export(load_network(tmp_path / "module"), tmp_path / "m.keras", FORMATS["keras"])
    again = load_network(tmp_path / "m.keras")
    assert again.spec == spec
    model = load_model(tmp_path / "m.keras")  # by way of a module in the cache
    assert model.module.card.name == "small"
    assert model.module.card.network == spec.to_dict()
    assert export(again, tmp_path / "m.onnx", FORMATS["onnx"]).largest_difference < 1e-4


def test_card_of_another_network_is_refused(tiny_module, tiny_spec, tmp_path):
    folder = shutil.copytree(tiny_module, tmp_path / "module")
    other = replace(tiny_spec, filters=16)
    write_card(folder, Card("wrong", network=other.to_dict()), None)
    with pytest.raises(ModelError, match="misshapen"):
        load_network(folder)
    write_card(folder, Card("wrong", network={"filters": "many"}), None)
    with pytest.raises(ModelError, match=r"card of .* doesn't describe"):
        load_network(folder)
