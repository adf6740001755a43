"""Modules in the TF1 Hub format, as their consumers read them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.tf1_hub import write_tf1_hub
from nasnet_cli.network.spec import MOBILE
from nasnet_cli.network.weights import weight_shapes
from nasnet_cli.runtime.base import Plan
from nasnet_cli.runtime.openvino import OpenVINORuntime
from support import golden
from support.models import open_saved_model

LOGITS = "final_layer/FC/BiasAdd:0"
FEATURES = "final_layer/global_pool:0"


def hub_load(folder):
    import warnings

    with warnings.catch_warnings():
        # tensorflow-hub imports pkg_resources, whose going is announced.
        warnings.simplefilter("ignore")
        import tensorflow_hub as hub
    return hub.load(str(folder))


def test_hub_load_gives_the_golden_outputs(golden_module):
    from nasnet_cli.quiet import tf

    expected = golden.outputs("mobile")
    module = hub_load(golden_module)
    images = tf.constant(golden.noise(2, 224))
    for name in ("default", "image_classification"):
        got = module.signatures[name](images)["default"]
        np.testing.assert_allclose(got, expected["logits"], rtol=0, atol=1e-5)
    got = module.signatures["image_feature_vector"](images)["default"]
    np.testing.assert_allclose(got, expected["global_pool"], rtol=0, atol=1e-5)


def test_openvino_gives_the_golden_outputs(golden_module, cache_folder):
    expected = golden.outputs("mobile")
    plan = Plan(
        open_saved_model(golden_module),
        (("logits", LOGITS), ("features", FEATURES)),
        (224, 224),
        pixels="float32",
    )
    for _ in ("compiled", "from the cache"):
        got = OpenVINORuntime(plan).submit(golden.noise(2, 224)).result()
        np.testing.assert_allclose(got["logits"], expected["logits"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(got["features"], expected["global_pool"], rtol=0, atol=1e-5)


def test_the_same_weights_give_the_same_bytes(tiny_module, tiny_spec, tmp_path):
    write_tf1_hub(tmp_path / "again", tiny_spec, golden.weights(weight_shapes(tiny_spec)))
    names = sorted(p.relative_to(tiny_module) for p in tiny_module.rglob("*") if p.is_file())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tiny_module / name).read_bytes(), name


@pytest.mark.slow
def test_a_feature_vector_module_does_not_hold_the_classification_layer(
    tiny_module, tiny_spec, tmp_path
):
    from nasnet_cli.quiet import tf

    shapes = weight_shapes(tiny_spec, classification=False)
    write_tf1_hub(tmp_path / "fv", tiny_spec, golden.weights(shapes), classification=False)
    images = tf.constant(golden.noise(2, tiny_spec.image_size))
    whole = hub_load(tiny_module).signatures["image_feature_vector"](images)
    module = hub_load(tmp_path / "fv")
    assert set(module.signatures) == {"default", "image_feature_vector"}
    assert np.array_equal(module.signatures["default"](images)["default"], whole["default"])
    data = "variables/variables.data-00000-of-00001"
    layer = 4 * (tiny_spec.feature_depth + 1) * tiny_spec.classes
    sizes = [(folder / data).stat().st_size for folder in (tiny_module, tmp_path / "fv")]
    assert sizes[0] - sizes[1] == layer


def test_weights_of_another_network_are_refused(tiny_spec, tmp_path):
    with pytest.raises(ModelError, match="missing"):
        write_tf1_hub(tmp_path / "m", MOBILE, golden.weights(weight_shapes(tiny_spec)))
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_writing_prints_nothing(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import pathlib; from support.modules import TINY, write_module\n"
        f"write_module(pathlib.Path({str(tmp_path / 'm')!r}), TINY)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=golden.DATA.parents[1],
    )
    assert (done.stdout, done.stderr) == ("", "")
