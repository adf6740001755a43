"""TF-Slim checkpoints in the four layouts in which they exist, and broken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import Card, network_of_card
from nasnet_cli.models.formats.slim import Slim
from nasnet_cli.network.spec import SIZES
from nasnet_cli.network.weights import network_of, weight_shapes
from support import golden

AVERAGE = "/ExponentialMovingAverage"


def save_checkpoint(prefix, values):
    """Write values by key as a TensorFlow checkpoint.

    This is the operation that tf.compat.v1.train.Saver runs, in its order, without the graph and
    the variables, which take seconds to make.
    """
    from nasnet_cli.quiet import tf

    keys = sorted(values)
    tensors = [tf.constant(values[key]) for key in keys]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=tensors
    )


def is_trainable(name):
    return not name.endswith(("/moving_mean", "/moving_variance"))


def stale(value):
    """A raw value that must not be taken where there is an average."""
    return value + np.float32(1)


def layouts(weights):
    extra = {"global_step": np.array(312, np.int64), "aux_1/aux_logits/FC/biases": np.ones(3, "f")}
    return {
        "averages only": {k + AVERAGE: v for k, v in weights.items()},
        "averages and raw for all": {
            **{k: stale(v) for k, v in weights.items()},
            **{k + AVERAGE: v for k, v in weights.items()},
            **extra,
        },
        "averages for trainables only": {
            **{k: stale(v) if is_trainable(k) else v for k, v in weights.items()},
            **{k + AVERAGE: v for k, v in weights.items() if is_trainable(k)},
            **{k + "/RMSProp": v for k, v in weights.items() if is_trainable(k)},
        },
        "plain": {**weights, **extra},
    }


@pytest.mark.parametrize(
    "layout",
    ["averages only", "averages and raw for all", "averages for trainables only", "plain"],
)
def test_each_layout_gives_the_same_weights(layout, tmp_path, tiny_spec):
    weights = golden.weights(weight_shapes(tiny_spec))
    save_checkpoint(tmp_path / "model.ckpt", layouts(weights)[layout])
    network = Slim().read_network(tmp_path / "model.ckpt")
    spec, read = network.spec, network.weights
    assert replace(spec, image_size=tiny_spec.image_size) == tiny_spec
    assert read.keys() == weights.keys()
    assert all(np.array_equal(read[name], weights[name]) for name in weights)


def test_missing_extra_and_misshapen_variables_are_named(tmp_path, tiny_spec):
    weights = golden.weights(weight_shapes(tiny_spec))
    del weights["conv0_bn/beta"]
    weights["cell_9x/unknown/weights"] = np.zeros((2, 2), np.float32)
    weights["cell_1/1x1/weights"] = np.zeros((1, 1, 5, 16), np.float32)
    save_checkpoint(tmp_path / "model.ckpt", weights)
    with pytest.raises(ModelError) as caught:
        Slim().read_network(tmp_path / "model.ckpt")
    message = str(caught.value)
    assert "1 missing (conv0_bn/beta)" in message
    assert "1 extra (cell_9x/unknown/weights)" in message
    assert "1 misshapen (cell_1/1x1/weights is 1x1x5x16, not 1x1x" in message
    assert str(tmp_path / "model.ckpt") in message


def test_other_files_are_errors(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"no index at all")
    for prefix, words in (("model.ckpt", "index is damaged"), ("absent", "index is missing")):
        with pytest.raises(ModelError, match=words):
            Slim().read_network(tmp_path / prefix)


def test_checkpoint_without_its_data_is_an_error(tmp_path, tiny_spec):
    save_checkpoint(tmp_path / "model.ckpt", golden.weights(weight_shapes(tiny_spec)))
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"model\.ckpt\.data-00000-of-00001 is missing"):
        Slim().read_network(tmp_path / "model.ckpt")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize(
    ("part", "words"),
    [("index", "is damaged"), ("data-00000-of-00001", r"is cut off: it has \d+ b")],
)
def test_truncated_checkpoint_is_an_error(part, words, share, tmp_path, tiny_spec):
    save_checkpoint(tmp_path / "model.ckpt", golden.weights(weight_shapes(tiny_spec)))
    cut = tmp_path / f"model.ckpt.{part}"
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * share)])
    with pytest.raises(ModelError, match=rf"model\.ckpt\.{part} {words}"):
        Slim().read_network(tmp_path / "model.ckpt")


def test_changed_data_is_an_error(tmp_path, tiny_spec):
    save_checkpoint(tmp_path / "model.ckpt", golden.weights(weight_shapes(tiny_spec)))
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(ModelError, match=r"The checkpoint .*model\.ckpt is damaged"):
        Slim().read_network(tmp_path / "model.ckpt")


def test_huge_network_is_refused(tiny_spec):
    shapes = {**weight_shapes(tiny_spec), "cell_999999999/1x1/weights": (1, 1, 8, 8)}
    with pytest.raises(ModelError, match="does not have the variables of a NASNet-A"):
        network_of(shapes, "it")


def test_checkpoint_of_another_network_is_an_error(tmp_path):
    save_checkpoint(tmp_path / "model.ckpt", {"MobilenetV1/weights": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match="does not have the variables of a NASNet-A"):
        Slim().read_network(tmp_path / "model.ckpt")


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_are_recognized_by_their_variables(size):
    assert network_of(weight_shapes(SIZES[size]), "it") == SIZES[size]
    fine_tuned = replace(SIZES[size], classes=5)
    assert network_of(weight_shapes(fine_tuned), "it") == fine_tuned


@pytest.mark.parametrize(
    "wrong",
    [
        {"cells_per_stage": 10**9},
        {"filters": -4},
        {"classes": 7.0},
        {"bn_epsilon": "small"},
        {"weight_decay": float("nan")},
        {"skip_reduction_input": 1},
        {"stem": {"padding": "valit"}},
        {"stem": {"stride": 0}},
        {"stem": {"convolution": "conv 0"}},
        {"stem": {"unknown": 1}},
    ],
)
def test_card_of_an_impossible_network_is_refused(wrong, tiny_spec):
    network = tiny_spec.to_dict()
    network["stem"] |= wrong.pop("stem", {})
    card = Card("it", network={**network, **wrong})
    with pytest.raises(ModelError, match="it doesn't describe a NASNet-A"):
        network_of_card(card, None, Path("it"))
