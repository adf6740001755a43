"""TF2 SavedModels of other people's making: the right outputs, in both runtimes.

The networks are keras.applications' MobileNet, saved in the ways that Keras and TensorFlow offer,
and our own smallest one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.errors import ModelError
from nasnet_cli.model import Model, load_model
from nasnet_cli.models.savedmodel.extract import find_signature, needs_extraction, write_extract
from nasnet_cli.network.weights import weight_shapes
from nasnet_cli.runtime.base import RuntimeName
from support import golden
from support.cli import Result, run_in_process
from support.modules import TINY

SIZE = 32
TOLERANCE = 1e-5
RUNTIMES: list[RuntimeName] = ["openvino", "tensorflow"]


@dataclass
class Modules:
    """Modules of one MobileNet by how they were saved, and what Keras computes with it."""

    folders: dict[str, Path]
    expected: dict[str, np.ndarray]


def sample_images() -> np.ndarray:
    """Six images [6, 32, 32, 3], blocks of colour and noise."""
    both = np.concatenate([golden.blocks(3, SIZE), golden.noise(3, SIZE)])
    return np.asarray(both * 255, np.uint8)


def values() -> np.ndarray:
    return sample_images().astype(np.float32) / np.float32(255)


def give_weights(network: Any) -> None:
    """Weights with which outputs differ much from image to image and from class to class."""
    random = np.random.default_rng(4)
    for weight in network.weights:
        shape, name = weight.shape, weight.name
        if len(shape) > 1:
            inputs = np.prod(
                shape[:2] if "depthwise" in weight.path or shape[-1] == 1 else shape[:-1]
            )
            value = random.normal(0, np.sqrt(2 / inputs), shape)
        elif name in ("gamma", "moving_variance"):
            value = random.uniform(0.5, 1.5, shape)
        else:
            value = random.normal(0, 0.1, shape)
        weight.assign(value)


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    from nasnet_cli.quiet import tf

    keras = tf.keras
    folder = tmp_path_factory.mktemp("mobilenets")
    network = keras.applications.MobileNet(
        (SIZE, SIZE, 3), alpha=0.25, weights=None, classes=9, classifier_activation=None
    )
    give_weights(network)
    softmax = keras.Model(network.input, keras.layers.Softmax()(network.output))
    pooled = network.get_layer(index=[x.name[:14] for x in network.layers].index("global_average"))
    features = keras.layers.Flatten()(pooled.output)
    both = keras.Model(network.input, {"logits": network.output, "features": features})
    expected = {name: np.asarray(value) for name, value in both(values()).items()}
    expected["probabilities"] = np.asarray(softmax(values()))
    save_with_signatures(tf, both, folder)
    network.export(folder / "keras export", verbose=False)
    softmax.export(folder / "softmax", verbose=False)
    archive = keras.export.ExportArchive()
    archive.track(both)
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images")]
    for name, key in (("image_classification", "logits"), ("image_feature_vector", "features")):
        archive.add_endpoint(name, lambda images, key=key: both(images)[key], signature)
    archive.write_out(folder / "keras archive", verbose=False)
    folders = {path.name: path for path in folder.iterdir()}
    return Modules(folders, expected)


def save_with_signatures(tf: Any, both: Any, folder: Path) -> None:
    module = tf.Module()
    module.network = both

    def signature(*keys: str) -> Any:
        spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images")

        @tf.function(input_signature=[spec], autograph=False)
        def run(images: Any) -> dict[str, Any]:
            found = both(images, training=False)
            return {key: found[key] for key in keys}

        return run

    image = {
        "image_classification": signature("logits"),
        "image_feature_vector": signature("features"),
    }
    serving = {"serving_default": signature("features", "logits")}
    tf.saved_model.save(module, str(folder / "image signatures"), signatures=image)
    tf.saved_model.save(module, str(folder / "all signatures"), signatures={**image, **serving})
    tf.saved_model.save(module, str(folder / "serving alone"), signatures=serving)


@pytest.fixture(scope="session")
def tiny_saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our smallest network as a TF2 SavedModel, the same as tiny_module."""
    from nasnet_cli.network.reusable import write_saved_model

    folder = tmp_path_factory.mktemp("modules") / "tiny2"
    write_saved_model(folder, TINY, golden.weights(weight_shapes(TINY)))
    return folder


def run(model: Model, *outputs: str) -> dict[str, np.ndarray]:
    """A run of the six images in batches of four and two."""
    batches = [sample_images()[:4], sample_images()[4:]]
    runtime = model.runtime(outputs)  # type: ignore[arg-type]
    assert runtime.name == (model.runtime_name or "openvino")
    results = [runtime.submit(batch).result() for batch in batches]
    return {name: np.concatenate([each[name] for each in results]) for name in outputs}


WITH_BOTH = ["image signatures", "all signatures", "serving alone", "keras archive"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", WITH_BOTH)
def test_logits_and_features_come_from_one_run(
    name: str, runtime: Any, modules: Modules, cache_folder: Path
) -> None:
    model = load_model(modules.folders[name], runtime=runtime)
    for outputs in (("logits", "features"), ("features",), ("features", "logits")):
        got = run(model, *outputs)
        for output in outputs:
            np.testing.assert_allclose(
                got[output], modules.expected[output], rtol=0, atol=TOLERANCE
            )
    spread = np.ptp(modules.expected["logits"], axis=0).max()
    assert spread > 1000 * TOLERANCE  # or any output would do


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("name", "expected"), [("keras export", "logits"), ("softmax", "probabilities")]
)
def test_what_keras_exports_runs(
    name: str, expected: str, runtime: Any, modules: Modules, cache_folder: Path
) -> None:
    model = load_model(modules.folders[name], runtime=runtime)
    assert model.module.output == expected and model.module.features is None
    got = run(model, "logits")["logits"]
    np.testing.assert_allclose(got, modules.expected[expected], rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_our_two_formats_give_the_same_in_both_runtimes(
    tiny_module: Path, tiny_saved_model: Path, cache_folder: Path
) -> None:
    all_of_them = [
        run(load_model(folder, runtime=runtime), "logits", "features")
        for folder in (tiny_module, tiny_saved_model)
        for runtime in RUNTIMES
    ]
    for got in all_of_them[1:]:
        for name, value in all_of_them[0].items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=TOLERANCE)


def test_what_tensorflow_hub_wrote_runs_in_both(cache_folder: Path) -> None:
    folder = Path(__file__).parent / "data" / "tf1_tiny"
    images = np.asarray(golden.blocks(4, 8) * 255, np.uint8)
    got = []
    for name in RUNTIMES:
        runtime = load_model(folder, runtime=name).runtime(("logits", "features"))
        assert runtime.name == name
        got.append(runtime.submit(images).result())
    assert got[0]["logits"].shape == (4, 5) and np.ptp(got[0]["logits"]) > 0.5
    for name in ("logits", "features"):
        np.testing.assert_allclose(got[0][name], got[1][name], rtol=0, atol=TOLERANCE)


def test_the_right_output_is_taken_in_every_process(modules: Modules, tmp_path: Path) -> None:
    """Four processes that each compile the module anew."""
    code = (
        "import sys, numpy as np\n"
        "from nasnet_cli.model import load_model\n"
        "model = load_model(sys.argv[1], runtime='openvino')\n"
        "got = model.runtime(('features', 'logits')).submit(np.load(sys.argv[2])[:4]).result()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "np.savez(sys.argv[3], **got)\n"
    )
    np.save(tmp_path / "images.npy", sample_images())
    for turn in range(4):
        arguments = [modules.folders["image signatures"], tmp_path / "images.npy"]
        out = tmp_path / f"{turn}.npz"
        environment = {"NASNET_CACHE_DIR": str(tmp_path / f"cache {turn}"), "PATH": ""}
        subprocess.run([sys.executable, "-c", code, *arguments, out], check=True, env=environment)
        with np.load(out) as got:
            for name in ("logits", "features"):
                expected = modules.expected[name][:4]
                np.testing.assert_allclose(got[name], expected, rtol=0, atol=TOLERANCE)


def test_the_copy_is_made_once_and_removed(
    tiny_saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    first = run(load_model(tiny_saved_model), "logits")
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    again = run(load_model(tiny_saved_model), "logits")
    assert again["logits"].tobytes() == first["logits"].tobytes()


def test_a_cut_module_has_only_what_is_asked_for(tiny_saved_model: Path, tmp_path: Path) -> None:
    from nasnet_cli.models.savedmodel.reader import read_saved_model
    from support.models import open_saved_model

    module = open_saved_model(tiny_saved_model)
    assert needs_extraction(module.model) and module.features is not None
    write_extract(module.model, [module.features.output.tensor], tmp_path)
    graph = read_saved_model(tmp_path).inference
    (signature,) = graph.signatures.values()
    assert (list(signature.inputs), list(signature.outputs)) == (["images"], ["output_0"])
    assert signature.outputs["output_0"].shape == (None, 192)
    operations = {node.op for node in graph.proto.graph_def.node}
    assert operations == {
        *("Placeholder", "VarHandleOp", "StatefulPartitionedCall"),
        *("Const", "RestoreV2", "Identity", "AssignVariableOp"),
    }
    whole = (tiny_saved_model / "saved_model.pb").stat().st_size
    assert (tmp_path / "saved_model.pb").stat().st_size < whole / 3
    with pytest.raises(ModelError, match="no signature has the output nothing:0"):
        find_signature(module.model, "nothing:0")


def test_a_variable_without_an_object_is_an_error_in_words(
    tiny_saved_model: Path, tmp_path: Path
) -> None:
    from support.models import open_saved_model

    module = open_saved_model(tiny_saved_model)
    assert module.features is not None
    module.model.inference.proto.object_graph_def.concrete_functions.clear()
    with pytest.raises(ModelError, match="is not among the saved objects"):
        write_extract(module.model, [module.features.output.tensor], tmp_path)


def test_a_string_of_a_checkpoint_is_read(tiny_saved_model: Path) -> None:
    from nasnet_cli.models.savedmodel.bundle import read_bundle
    from nasnet_cli.models.savedmodel.schema import parse

    bundle = read_bundle(tiny_saved_model / "variables" / "variables")
    objects = parse("TrackableObjectGraph", bundle.read_string("_CHECKPOINTABLE_OBJECT_GRAPH"))
    keys = {value.checkpoint_key for node in objects.nodes for value in node.attributes}
    assert keys == bundle.tensors.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    for name in ("variables/0/.ATTRIBUTES/VARIABLE_VALUE", "absent"):
        with pytest.raises(ModelError, match=f"has no string '{name}'"):
            bundle.read_string(name)


def test_a_graph_of_tensorflow_1_with_serving_default_runs(
    tmp_path: Path, cache_folder: Path
) -> None:
    """Of it too OpenVINO sees only serving_default."""
    from nasnet_cli.quiet import tf

    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, SIZE, SIZE, 3), name="images")
        features = tf.reduce_mean(images, [1, 2])
        kernel = v1.get_variable("kernel", (3, 5), use_resource=True)
        logits = features @ kernel
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.utils.build_tensor_info
        builder = v1.saved_model.Builder(str(tmp_path / "m"))

        def signature(output: Any) -> Any:
            return v1.saved_model.build_signature_def({"images": info(images)}, output, "predict")

        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature({"default": info(logits)}),
                "image_feature_vector": signature({"default": info(features)}),
            },
        )
        builder.save()
        expected = session.run({"logits": logits, "features": features}, {images: values()})
    for runtime in RUNTIMES:
        got = run(load_model(tmp_path / "m", runtime=runtime), "logits", "features")
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=TOLERANCE)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(sample_images()):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


Classify = Callable[..., Result]


@pytest.fixture
def classify(photos: Path) -> Classify:
    def call(module: Path, *options: str) -> Result:
        return run_in_process("classify", photos, "-m", module, "--crop-fraction", 1, *options)

    return call


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_probabilities_are_given_as_they_are(
    runtime: str, classify: Classify, modules: Modules, cache_folder: Path
) -> None:
    """Another softmax over Keras' own would make all classes about equal."""
    for name in ("softmax", "keras export"):
        done = classify(modules.folders[name], "--top", "9", "--runtime", runtime)
        assert done.exit_code == 0
        rows = [json.loads(line)["predictions"] for line in done.stdout.splitlines()]
        got = np.zeros((6, 9))
        for row, predictions in enumerate(rows):
            for found in predictions:
                got[row, found["index"]] = found["probability"]
        np.testing.assert_allclose(got, modules.expected["probabilities"], rtol=0, atol=TOLERANCE)


@pytest.fixture
def odd_module(tmp_path: Path) -> Path:
    """A module with an operation that is harmless and that OpenVINO doesn't know."""
    from nasnet_cli.quiet import tf

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)], autograph=False)
    def run(images: Any) -> Any:
        means = tf.math.lgamma(1.0 + tf.reduce_mean(images, [1, 2]))
        return {"default": tf.linalg.matmul(means, tf.eye(3))}

    tf.saved_model.save(tf.Module(), str(tmp_path / "odd"), signatures={"default": run})
    return tmp_path / "odd"


def test_tensorflow_runs_what_openvino_cannot_read_and_it_is_said(
    odd_module: Path, classify: Classify, cache_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    # The signature may be taken for either; classification is looked for in default too.
    done = classify(odd_module, "--out", str(out))
    assert done.exit_code == 0, done.stderr
    *notes, last = done.stderr.splitlines()
    assumed, first = sorted(notes)
    assert "doesn't say what it takes for pixels" in assumed
    assert first.startswith(f"OpenVINO cannot read the model in {odd_module}: ")
    assert first.endswith("TensorFlow runs it instead, which is slower to start.")
    assert last.startswith("6 images: 6 classified")
    recorded = json.loads((tmp_path / "out.jsonl.meta.json").read_text())["runtime"]
    from nasnet_cli.quiet import tf

    assert (recorded["name"], recorded["version"]) == ("tensorflow", tf.__version__)
    asked = classify(odd_module, "--runtime", "openvino")
    assert asked.exit_code == 1 and asked.stdout == ""
    assert "Try it with --runtime tensorflow." in asked.stderr
