"""The library: what `import nasnet_cli` offers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import nasnet_cli
from nasnet_cli import Classified, NasnetError, load_model
from support import crafted


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_the_public_names_are_complete():
    for name in nasnet_cli.__all__:
        assert getattr(nasnet_cli, name) is not None
    assert set(nasnet_cli.__all__) == set(nasnet_cli._PUBLIC)
    with pytest.raises(AttributeError):
        _ = nasnet_cli.no_such_name


def test_classify_yields_records_and_prints_nothing(image, tiny_module, cache_folder, capfd):
    model = load_model(tiny_module)
    gone = image.with_name("gone.png")
    first, second = model.classify([image, gone], top=3)
    assert isinstance(first, Classified)
    assert [found.rank for found in first.predictions] == [1, 2, 3]
    assert sum(p.probability for p in first.predictions) <= 1
    assert first.predictions[0].logit is None
    assert second.predictions is None and second.error.kind == "not_found"
    assert capfd.readouterr() == ("", "")


def test_a_model_opened_ahead_for_a_few_images_gives_the_same(image, tiny_module, cache_folder):
    usual, ahead = load_model(tiny_module), load_model(tiny_module)
    opening = ahead.open_ahead(("logits",), images=1)
    assert list(ahead.classify([image])) == list(usual.classify([image]))
    assert ahead.runtime(("logits",)) is opening.result()
    assert opening.result().threads == 1


def test_an_error_of_opening_the_runtime_is_raised_for_each_caller(image, tmp_path, cache_folder):
    nodes = [crafted.node("images", "Placeholder"), crafted.node("logits", "ReadFile", "images")]
    model = load_model(crafted.write(tmp_path / "unsafe", crafted.meta_graph(nodes)))
    for _ in range(2):
        with pytest.raises(NasnetError, match="ReadFile"):
            list(model.classify([image]))


def test_a_threshold_drops_less_probable_classes(image, tiny_module, cache_folder):
    model = load_model(tiny_module)
    (whole,) = model.classify([image], top=7)
    limit = whole.predictions[2].probability
    (some,) = model.classify([image], top=7, threshold=limit)
    assert some.predictions == whole.predictions[:3]
    (none,) = model.classify([image], threshold=1.0)
    assert none.predictions == ()


def test_preprocessing_can_be_changed(image, tiny_module, cache_folder):
    own = load_model(tiny_module)
    changed = load_model(tiny_module, preprocessing={"resize": "pad", "resample": "tf1"})
    assert changed.preprocessing.resize == "pad"
    assert changed.preprocessing.digest() != own.preprocessing.digest()
    results = [next(iter(model.classify([image]))) for model in (own, changed)]
    assert results[0].predictions != results[1].predictions


def test_inspect_describes_the_model(tiny_module):
    found = load_model(tiny_module).inspect()
    assert found["format"] == "tf1-hub"
    assert found["image_size"] == [32, 32]
    assert (found["classes"], found["feature_depth"]) == (7, 192)
    assert found["unsafe_operations"] == []
    assert set(found["signatures"]) == {"default", "image_classification", "image_feature_vector"}


def test_errors_are_sentences(tmp_path):
    with pytest.raises(NasnetError, match="There is no"):
        load_model(tmp_path / "absent")


def test_errors_travel_between_processes():
    import pickle

    from nasnet_cli.errors import InputError, ModelError

    error = pickle.loads(pickle.dumps(InputError("truncated", "It ends early.")))
    assert (error.kind, error.message, str(error)) == ("truncated", "It ends early.", error.message)
    other = pickle.loads(pickle.dumps(ModelError("It is broken.", "Fetch it again.")))
    assert str(other) == "It is broken. Fetch it again."
