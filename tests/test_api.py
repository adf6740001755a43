"""The library: what `import nasnet_cli` offers."""

from __future__ import annotations

import json
import os

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
    assert dir(nasnet_cli) == sorted([*nasnet_cli.__all__, "__version__"])
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


@pytest.mark.parametrize("as_given", [str, os.fspath, lambda path: path])
def test_one_path_is_one_input(as_given, image, tiny_module):
    model = load_model(tiny_module)
    given = as_given(image)
    assert [record.path for record in model.classify(given)] == [str(image)]
    assert [record.path for record in model.embed(given)] == [str(image)]
    assert list(model.classify(given)) == list(model.classify([given]))


def test_images_in_memory_have_the_results_of_their_files(image, tiny_module):
    model = load_model(tiny_module)
    with Image.open(image) as opened:
        opened.load()
    array = np.asarray(opened)
    given = [opened, array, image, array[None][0]]
    records = list(model.classify(given))
    names = ["<image 0>", "<image 1>", str(image), "<image 3>"]
    assert [record.path for record in records] == names
    assert len({str(record.predictions) for record in records}) == 1
    assert records[0].predictions is not None
    (one,), (other,) = model.classify(opened), model.classify(array)
    assert one.predictions == other.predictions == records[0].predictions
    assert len(list(model.embed(np.stack([array, array])))) == 2


def test_images_in_memory_are_shown_as_their_files(tmp_path, tiny_module):
    """Orientation, alpha and palette count; what was given stays as it is."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 4), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).convert("RGB").quantize(16).save(tmp_path / "palette.png")
    model = load_model(tiny_module)
    for name in ("turned.png", "palette.png"):
        with Image.open(tmp_path / name) as opened:
            size, mode = opened.size, opened.mode
            in_memory, from_file = model.classify([opened, tmp_path / name])
            assert in_memory.predictions == from_file.predictions
            assert (opened.size, opened.mode) == (size, mode)


def test_memory_may_be_used_again_for_the_next_image(tiny_module):
    first, second = np.random.default_rng(5).integers(0, 256, (2, 40, 50, 3), np.uint8)

    def frames():
        frame = np.empty_like(first)
        for pixels in (first, second):
            frame[:] = pixels
            yield frame

    model = load_model(tiny_module)
    expected = [record.predictions for record in model.classify([first, second])]
    assert [record.predictions for record in model.classify(frames())] == expected
    assert expected[0] != expected[1]


def test_an_opened_file_that_is_cut_short_has_an_error(image, tiny_module):
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    with Image.open(image) as opened:
        (record,) = load_model(tiny_module).classify(opened)
    assert record.error.kind == "truncated"


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        (b"\xff\xd8", TypeError, "bytes"),
        (7, TypeError, "int"),
        ([None], TypeError, "NoneType"),
        (np.zeros((8, 8), np.uint8), ValueError, r"\[8, 8\] of uint8"),
        (np.zeros((8, 8, 3), np.float32), ValueError, r"\[8, 8, 3\] of float32"),
        ([np.zeros((8, 8, 4), np.uint8)], ValueError, r"\[8, 8, 4\] of uint8"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"\[0, 8, 3\] of uint8"),
    ],
)
def test_anything_else_is_refused_by_name(given, error, named, tiny_module):
    model = load_model(tiny_module)
    with pytest.raises(error, match=f"{named}.*Accepted are paths, PIL images, and arrays"):
        list(model.classify(given))


def test_one_wrong_input_is_refused_at_the_call(tiny_module):
    with pytest.raises(TypeError, match="int"):
        load_model(tiny_module).embed(7)


def test_reprs_are_short(image, tiny_module):
    model = load_model(tiny_module)
    assert repr(model) == f"<Model {tiny_module}: tf1-hub, 7 classes, 32x32>"
    (vector,) = model.embed(image)
    assert repr(vector) == f"Embedded(path='{image}', vector=float32[192])"
    (failed,) = model.embed(image.with_name("gone.png"))
    assert "not_found" in repr(failed)


def test_records_as_dictionaries_are_what_the_command_writes(nasnet, image, tiny_module):
    model = load_model(tiny_module)
    paths = [str(image), str(image.with_name("gone.png")), os.fsdecode(b"gone\xff.png")]
    written = nasnet("classify", *paths, "-m", tiny_module, "--logits").rows
    records = [record.to_dict() for record in model.classify(paths, logits=True)]
    assert records == written
    assert "path_bytes" in records[2] and "logit" in records[0]["predictions"][0]
    vector, error, _ = (record.to_dict() for record in model.embed(paths))
    assert json.loads(json.dumps(vector))["vector"] == vector["vector"]
    assert (len(vector["vector"]), vector["status"]) == (192, "ok")
    assert error == {key: records[1][key] for key in ("path", "status", "error")}


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
        with pytest.raises(NasnetError, match=r"could touch files.*ReadFile in the graph"):
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
