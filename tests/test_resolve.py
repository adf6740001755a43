"""Resolution of what a user calls a model: paths, handles, names."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models.card import read_card, read_module_labels
from nasnet_cli.models.convert import write_module
from nasnet_cli.models.detect import detect
from nasnet_cli.models.formats.base import Network
from nasnet_cli.models.hub import store
from nasnet_cli.models.hub.fetch import ChecksumError
from nasnet_cli.models.hub.published import PUBLISHED, hub_cache_name
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.network.spec import SIZES
from nasnet_cli.network.weights import weight_shapes
from support import crafted, golden
from support.cli import WATCHDOG
from support.hub_server import Answer, hub_server, tar_of
from support.models import open_saved_model, resolve_path
from support.waiting import wait_until
from test_slim import layouts, save_checkpoint

pytestmark = pytest.mark.usefixtures("cache_folder")

SLIM_MOBILE = (
    "/storage.googleapis.com/download.tensorflow.org/models/nasnet-a_mobile_04_10_2017.tar.gz"
)
HUB_MOBILE = "/tfhub.dev/google/imagenet/nasnet_mobile/classification/1"
KERAS_MOBILE = "/storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-mobile.h5"


class Ear(ProgressListener):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No cache of tensorflow-hub, no proxy, no mirror from the machine that the tests run on; and
    where kagglehub is installed, a Kaggle that nothing listens at (test_kaggle has one)."""
    monkeypatch.delenv("NASNET_MIRROR", raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture
def module(tmp_path):
    return crafted_module(tmp_path / "made" / "module")


@pytest.fixture
def packed(module):
    return tar_of(module)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_spec):
    """A folder with a TF-Slim checkpoint, laid out as the published one."""
    folder = tmp_path_factory.mktemp("slim")
    weights = golden.weights(weight_shapes(tiny_spec))
    save_checkpoint(folder / "model.ckpt", layouts(weights)["averages only"])
    return folder


def crafted_module(folder):
    """A module that can be opened, of a few hundred kilobytes that can't be compressed."""
    crafted.write(folder, crafted.meta_graph())
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    (folder / "assets").mkdir()
    (folder / "assets" / "noise").write_bytes(os.urandom(600_000))
    return folder


def kept(cache_folder):
    """The names of what lies in the cache's modules, hidden ones too."""
    return sorted(path.name for path in (cache_folder / "modules").glob("*"))


def same(folder, other):
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (folder, other)]
    return names[0] == names[1] and all(
        (folder / name).read_bytes() == (other / name).read_bytes()
        for name in names[0]
        if (folder / name).is_file()
    )


# Paths


def test_the_built_in_model_and_a_folder_need_neither_tensorflow_nor_a_network(module):
    code = (
        "import sys\nfrom nasnet_cli.models.resolve import resolve\n"
        "try: resolve(None)\nexcept Exception as e: assert 'built-in' in str(e), e\n"
        "print(resolve(sys.argv[1]).path)\n"
        "print([m for m in ('tensorflow', 'numpy', 'requests', 'urllib.request', 'http.client', "
        "'keras', 'openvino') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == [str(module), "[]", ""]


def test_a_module_is_itself_whatever_its_folder_is_called(module, cache_folder):
    assert resolve_path(str(module)) == module
    assert resolve_path(module) == module
    assert resolve_path(str(module / "saved_model.pb")) == module
    assert not cache_folder.exists()


@pytest.mark.parametrize("top", [".", "nasnet", "a/b"])
def test_an_archive_is_unpacked_into_the_cache_once(module, tmp_path, top, cache_folder):
    archive = tmp_path / "any name at all"
    archive.write_bytes(tar_of(module, top=top))
    folder = resolve_path(str(archive))
    assert same(folder, module)
    assert folder.parent == cache_folder / "modules"
    stamp = folder.stat()
    assert resolve_path(str(archive)) == folder
    assert folder.stat() == stamp
    assert kept(cache_folder) == sorted([folder.name, folder.name + ".json"])


def test_an_archive_of_other_content_under_the_same_name_is_another_module(tmp_path, packed):
    archive = tmp_path / "module.tar.gz"
    archive.write_bytes(packed)
    first = resolve_path(str(archive))
    archive.write_bytes(tar_of(crafted_module(tmp_path / "other")))
    assert resolve_path(str(archive)) != first


def test_an_archive_that_holds_no_model_says_what_was_looked_for(tmp_path, cache_folder):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("hello")
    (tmp_path / "a.tgz").write_bytes(tar_of(tmp_path / "in"))
    with pytest.raises(ModelError, match=r"holds no model.*saved_model\.pb.*model\.ckpt\.index"):
        resolve_path(str(tmp_path / "a.tgz"))
    assert kept(cache_folder) == []


def test_an_archive_that_holds_two_models_is_refused(tmp_path):
    crafted_module(tmp_path / "in" / "one")
    crafted_module(tmp_path / "in" / "two")
    (tmp_path / "a.tgz").write_bytes(tar_of(tmp_path / "in"))
    with pytest.raises(ModelError, match="2 models in it: one, two"):
        resolve_path(str(tmp_path / "a.tgz"))


def test_an_archive_of_a_broken_module_is_refused_under_its_own_name(tmp_path, cache_folder):
    folder = crafted.write(tmp_path / "in", crafted.meta_graph(tags=["train"]))
    archive = tmp_path / "train.tgz"
    archive.write_bytes(tar_of(folder))
    with pytest.raises(ModelError, match="only a training graph") as caught:
        resolve_path(str(archive))
    assert str(archive) in str(caught.value)
    assert "partial" not in str(caught.value)
    assert kept(cache_folder) == []


@pytest.mark.slow
def test_a_checkpoint_becomes_a_module_by_any_of_its_names(checkpoint, tiny_module, tmp_path):
    ear = Ear()
    folder = resolve_path(str(checkpoint / "model.ckpt"), ear)
    assert len(ear.notes) == 1 and "converting it to a TF1 Hub module" in ear.notes[0]
    for name in ("", "model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        assert resolve_path(str(checkpoint / name)) == folder
    opened = open_saved_model(folder)
    assert (opened.format, opened.classes, opened.image_size) == ("tf1-hub", 7, (224, 224))
    tiny = tiny_module / "variables" / "variables.data-00000-of-00001"
    assert (folder / "variables" / tiny.name).read_bytes() == tiny.read_bytes()
    card = read_card(folder)
    assert card.preprocessing["crop_fraction"] == 0.875
    assert "/" not in card.source  # the same weights, the same module, wherever they lay


def test_of_several_checkpoints_the_latest_is_taken_or_one_is_to_be_named(checkpoint, tmp_path):
    for step in (1, 2):
        for path in checkpoint.glob("model.ckpt.*"):
            (tmp_path / path.name.replace("ckpt", f"ckpt-{step}")).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match=r"2 checkpoints: model\.ckpt-1, model\.ckpt-2"):
        resolve_path(str(tmp_path))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/model.ckpt-1"\n')
    latest = detect(tmp_path)
    assert (latest.format.name, latest.path) == ("slim", tmp_path / "model.ckpt-1")


@pytest.mark.slow
def test_a_keras_file_becomes_a_module(tmp_path, tiny_spec):
    from test_keras_files import tiny_nasnet

    saved = tmp_path / "tiny.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny_nasnet("keras", tiny_spec).save_weights(saved)
    opened = open_saved_model(resolve_path(str(saved.rename(tmp_path / "some weights"))))
    assert (opened.classes, opened.output) == (7, "logits")


@pytest.mark.parametrize(
    "content", [b"\x00" * 600, b"\x89PNG\r\n\x1a\n", b"PK\x03\x04 no zip", "käse".encode()]
)
def test_what_is_not_recognised_lists_what_was_looked_for(tmp_path, content):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(
        ModelError,
        match=r"is not a model nasnet can read\. Expected one of: the folder of a SavedModel",
    ):
        resolve_path(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.onnx", b"", "m.onnx is empty"),
        ("m", b"", "m is empty"),
        ("m.tflite", b"\x00" * 600, "is named like a TFLite file, but is not one, or is damaged"),
        ("m.keras", b"PK\x03\x04 no zip", "is named like a Keras file, but is not one"),
        ("m.xml", b"\n<!DOCTYPE html><p>Please log in</p>", "m.xml is a web page, not a model"),
        ("m.bin", b"\x00" * 600, r"m.bin is only the weights of m.xml. Name m.xml instead"),
    ],
)
def test_what_is_not_what_its_name_says_is_told_so(name, content, words, tmp_path):
    (tmp_path / "m.xml").write_text("<net />")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        resolve_path(str(tmp_path / name))


def test_an_empty_folder_is_not_recognised(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"The folder .*empty is not a model nasnet can read"):
        resolve_path(str(tmp_path / "empty"))


@pytest.mark.parametrize("typo", ["imagenet-mobil", "ImageNet-Mobile", "imagnet-mobile"])
def test_a_typo_in_a_name_says_which_names_there_are(typo):
    with pytest.raises(ModelError, match=r"Did you mean imagenet-mobile\?.*imagenet-large-feat"):
        resolve_path(typo)


def test_a_path_that_is_not_there_names_the_names_without_a_guess():
    with pytest.raises(ModelError, match="no such name, file or folder") as caught:
        resolve_path("/nowhere/at/all")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("handle", ["gs://bucket/m", "s3://bucket/m", "ftp://host/m"])
def test_other_protocols_are_refused(handle):
    with pytest.raises(ModelError, match="models come over https"):
        resolve_path(handle)


# Handles


def test_a_handle_is_fetched_once_by_the_hubs_protocol(hub, packed, module, cache_folder):
    handle = hub.put("/m/1", Answer(packed, needs_format=True))
    folder = resolve_path(handle)
    assert same(folder, module)
    assert hub.requests == [("/m/1?tf-hub-format=compressed", None)]
    hub.http.shutdown()
    assert resolve_path(handle) == folder
    assert kept(cache_folder) == sorted([folder.name, folder.name + ".json"])
    assert list((cache_folder / "partial").iterdir()) == []


def test_the_first_downloads_checksum_binds_the_later_ones(hub, packed, tmp_path, cache_folder):
    handle = hub.put("/m/1", Answer(packed))
    folder = resolve_path(handle)
    (folder / "saved_model.pb").unlink()
    hub.put("/m/1", Answer(tar_of(crafted_module(tmp_path / "changed"))))
    with pytest.raises(ChecksumError, match=r"gave other bytes.*`nasnet cache rm"):
        resolve_path(handle)
    store.remove(folder.name)
    assert resolve_path(handle) == folder


@pytest.mark.parametrize("harm", ["emptied", "cut", "gone", "no record", "broken record", "more"])
def test_a_broken_module_in_the_cache_is_fetched_again(hub, packed, module, harm):
    handle = hub.put("/m/1", Answer(packed))
    folder = resolve_path(handle)
    record = store.record_file(folder.name)
    if harm == "emptied":  # as temp cleaners do: the folders stay
        for path in folder.rglob("*"):
            if path.is_file():
                path.unlink()
    elif harm == "cut":
        (folder / "assets" / "noise").write_bytes(b"")
    elif harm == "gone":
        (folder / "tfhub_module.pb").unlink()
    elif harm == "no record":
        record.unlink()
    elif harm == "broken record":
        record.write_text('{"label": 5}')
    else:
        (folder / "saved_model.cpb").write_bytes(b"")
    ear = Ear()
    assert resolve_path(handle, ear) == folder
    assert same(folder, module)
    assert "in the cache is damaged" in ear.notes[0]
    assert hub.count("/m/1") == 2


def test_tensorflow_hubs_own_cache_is_used(hub, tmp_path, cache_folder):
    handle = hub.url + "/m/1"
    theirs = crafted_module(tmp_path / "tfhub" / hub_cache_name(handle))
    assert resolve_path(handle) == theirs
    assert hub.requests == []


def test_damaged_folder_in_tensorflow_hubs_cache_is_skipped_and_not_touched(
    hub, packed, tmp_path, cache_folder
):
    handle = hub.put("/m/1", Answer(packed))
    theirs = tmp_path / "tfhub" / hub_cache_name(handle)
    (theirs / "variables").mkdir(parents=True)
    ear = Ear()
    folder = resolve_path(handle, ear)
    assert folder.parent == cache_folder / "modules"
    assert "Skipping" in ear.notes[0]
    assert [p.name for p in theirs.iterdir()] == ["variables"]


def test_the_names_in_tensorflow_hubs_cache_are_its_own():
    found = {hub_cache_name(handle) for m in PUBLISHED.values() for handle in m.handles}
    assert "54b246e9ba27d2ebb70a5d0b8d9ff99ca6f7baa4" in found
    assert "21be84cdb4d6e4620027e99a1b136e965903e264" in found


def test_a_pipe_is_no_model_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    for command in ("inspect", "export"):
        options = ["--model", tmp_path / "m.onnx"] if command == "export" else []
        named = tmp_path / "out.keras" if command == "export" else tmp_path / "m.onnx"
        done = subprocess.run(
            [sys.executable, "-m", "nasnet_cli", command, named, *options],
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
        )
        assert done.returncode == 1 and "m.onnx is not a model nasnet can read" in done.stderr


def test_a_web_page_in_place_of_a_module_is_told(hub, cache_folder):
    handle = hub.put("/m/1", Answer(b"<!DOCTYPE html><html>Please sign in</html>"))
    with pytest.raises(ModelError, match="is a web page, not a model"):
        resolve_path(handle)
    assert list((cache_folder / "partial").iterdir()) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_handle_that_is_refused_is_told(hub, status):
    with pytest.raises(ModelError, match=f"HTTP {status}"):
        resolve_path(hub.put("/m/1", Answer(status=status)))


def test_without_a_network_there_is_one_error_with_the_ways_out():
    with pytest.raises(ModelError) as caught:
        resolve_path("https://nasnet.invalid/m/1")
    message = str(caught.value)
    assert "no connection to nasnet.invalid" in message
    assert "https://nasnet.invalid/m/1?tf-hub-format=compressed on another machine" in message
    assert "--model builtin" in message


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("../evil", tarfile.REGTYPE, "leads out of its folder, '../evil'"),
        ("/tmp/nasnet-evil", tarfile.REGTYPE, "leads out of its folder, '/tmp/nasnet-evil'"),
        ("variables", tarfile.SYMTYPE, "symbolic link, 'variables'"),
        ("saved_model.pb", tarfile.LNKTYPE, "hard link, 'saved_model.pb'"),
    ],
)
def test_a_hostile_archive_from_a_server_leaves_nothing(hub, cache_folder, name, kind, words):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc"
        archive.addfile(info, io.BytesIO())
    handle = hub.put("/m/1", Answer(stream.getvalue()))
    with pytest.raises(ModelError, match=words):
        resolve_path(handle)
    assert sorted(p.name for p in cache_folder.iterdir()) == ["locks", "modules", "partial"]
    assert kept(cache_folder) == []
    assert list((cache_folder / "partial").iterdir()) == []
    assert not Path("/tmp/nasnet-evil").exists()


RESOLVE = (
    "import sys; from nasnet_cli.models.resolve import resolve; print(resolve(sys.argv[1]).path)"
)


def start(handle):
    command = [sys.executable, "-c", RESOLVE, handle]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_start_at_once_download_once(hub, packed, cache_folder):
    handle = hub.put("/m/1", Answer(packed, pause=0.05))
    processes = [start(handle) for _ in range(4)]
    answers = {process.communicate(timeout=WATCHDOG) for process in processes}
    assert len(answers) == 1
    assert [process.returncode for process in processes] == [0] * 4
    assert hub.count("/m/1") == 1
    assert len(kept(cache_folder)) == 2


def test_a_killed_download_leaves_nothing_whole_and_is_gone_on_with(
    hub, packed, module, cache_folder
):
    handle = hub.put("/m/1", Answer(packed, held_at=2**18))
    with start(handle) as process:
        parts = lambda: cache_folder.glob("partial/*.part")  # noqa: E731
        wait_until(lambda: any(path.stat().st_size > 2**17 for path in parts()))
        with start(handle) as waiting:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert store.names() == []
            hub.let_go.set()
            out, err = waiting.communicate(timeout=WATCHDOG)  # the kill has freed the lock
    assert waiting.returncode == 0, err
    assert same(Path(out.strip()), module)
    assert hub.requests[-1][1].startswith("bytes=")
    assert len(kept(cache_folder)) == 2  # what the killed one left is gone


# Names


@pytest.mark.slow
def test_the_published_checkpoint_becomes_the_published_module_exactly(
    hub, monkeypatch, tmp_path, golden_module
):
    """The whole way of `--model imagenet-mobile`, with golden weights for the published ones."""
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    (tmp_path / "slim").mkdir()
    for path in (golden_module / "variables").iterdir():
        name = path.name.replace("variables", "model.ckpt")
        (tmp_path / "slim" / name).write_bytes(path.read_bytes())
    hub.put(SLIM_MOBILE, Answer(tar_of(tmp_path / "slim", top="nasnet-a_mobile_04_10_2017")))
    folder = resolve_path("imagenet-mobile")
    card = read_card(folder)
    assert card.name == "imagenet-mobile"
    assert (card.accuracy["top1"], card.accuracy["top5"]) == (0.740, 0.916)
    labels = read_module_labels(folder)
    assert (len(labels), labels[282].name) == (1001, "tabby")
    shutil.rmtree(folder / "assets.extra")
    # Of that module test_tf1_hub.py shows that it computes the golden logits.
    assert same(folder, golden_module)
    assert hub.count(SLIM_MOBILE) == 1


def test_the_features_of_a_checkpoint_become_a_module_without_its_classes(
    monkeypatch, tmp_path, tiny_spec
):
    size = replace(tiny_spec, classes=1001)
    monkeypatch.setitem(SIZES, "mobile", size)  # so small a network is quickly written
    published = PUBLISHED["imagenet-mobile-features"]
    weights = golden.weights(weight_shapes(size))
    network = Network("model.ckpt", size, weights, classification=True)
    write_module(network, tmp_path / "module", published.origins[0], published)
    opened = open_saved_model(tmp_path / "module")
    assert opened.classification is None
    assert opened.feature_depth == tiny_spec.feature_depth
    assert (opened.card.name, opened.labels) == ("imagenet-mobile-features", None)


def test_a_name_comes_from_the_next_place_when_one_has_not_got_it(
    hub, monkeypatch, packed, module, cache_folder
):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    hub.put(HUB_MOBILE, Answer(packed, needs_format=True))
    ear = Ear()
    folder = resolve_path("imagenet-mobile", ear)
    assert same(folder, module)
    (note,) = ear.notes
    assert "comes from the hub's module; not from TF-Slim's checkpoint: " in note
    assert "HTTP 404" in note
    requests = len(hub.requests)
    assert resolve_path("imagenet-mobile") == folder
    assert len(hub.requests) == requests


def test_a_name_is_found_in_tensorflow_hubs_cache(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    handle = "https://tfhub.dev/google/imagenet/nasnet_mobile/feature_vector/4"
    theirs = crafted_module(tmp_path / "tfhub" / hub_cache_name(handle))
    assert resolve_path("imagenet-mobile-features") == theirs
    assert hub.requests == []


def test_another_network_under_the_published_address_is_not_taken_for_it(
    hub, monkeypatch, checkpoint
):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    hub.put(SLIM_MOBILE, Answer(tar_of(checkpoint)))
    with pytest.raises(ModelError, match="isn't the published network"):
        resolve_path("imagenet-mobile")


def test_keras_weights_of_another_checksum_are_refused(hub, monkeypatch, cache_folder):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    hub.put(KERAS_MOBILE, Answer(b"\x89HDF\r\n\x1a\n" + bytes(100)))
    with pytest.raises(ChecksumError, match="published one is 020fb642bf7360b370c678b08e0adf61"):
        resolve_path("imagenet-mobile")
    assert list((cache_folder / "partial").iterdir()) == []


def test_when_no_place_has_it_one_error_lists_them_all_with_the_ways_out(hub, monkeypatch):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    hub.put(HUB_MOBILE, Answer(status=403))
    ear = Ear()
    with pytest.raises(ModelError) as caught:
        resolve_path("imagenet-mobile", ear)
    assert ear.notes == []
    message = str(caught.value)
    for words in (
        "TF-Slim's checkpoint and Keras' weights: there is nothing at this address (HTTP 404)",
        "the hub's module: the server denies access (HTTP 403)",
        "Kaggle",
        "Fetch https://storage.googleapis.com/download.tensorflow.org/models/nasnet-a_mobile",
        "downloads/nasnet-a_mobile_04_10_2017.tar.gz",
        "--model builtin",
    ):
        assert words in message


def test_offline_a_name_is_given_up_at_once(monkeypatch):
    monkeypatch.setenv("NASNET_MIRROR", "http://127.0.0.1:9")
    ear = Ear()
    once = r"TF-Slim's checkpoint and the hub's module and Keras' weights: there is no connection"
    with pytest.raises(ModelError, match=once) as caught:
        resolve_path("imagenet-large", ear)
    assert ear.notes == []  # no second try
    assert len(str(caught.value)) < 600


def test_a_file_fetched_elsewhere_is_used_before_any_server(hub, monkeypatch, packed, module):
    """At the very place that the error names, for a name and for a handle."""
    monkeypatch.setenv("NASNET_MIRROR", "http://127.0.0.1:9")
    for named in ("imagenet-mobile", "https://nasnet.invalid/m/1"):
        with pytest.raises(ModelError) as caught:
            resolve_path(named)
        (place,) = re.findall(r"save it as (\S+),", caught.value.remedy)
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_bytes(packed)
        assert same(resolve_path(named), module)
        assert Path(place).exists()


def test_a_damaged_file_fetched_elsewhere_is_told_and_the_server_asked(
    hub, monkeypatch, packed, module, cache_folder
):
    monkeypatch.setenv("NASNET_MIRROR", hub.url)
    hub.put(HUB_MOBILE, Answer(packed, needs_format=True))
    place = cache_folder / "downloads" / "nasnet-a_mobile_04_10_2017.tar.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(packed[: len(packed) // 2])
    ear = Ear()
    assert same(resolve_path("imagenet-mobile", ear), module)
    assert str(place) in ear.notes[0]


def test_origins_of_each_name_are_in_the_order_of_the_contract():
    for name, published in PUBLISHED.items():
        assert published.name == name
        assert [origin.kind for origin in published.origins] == ["slim", "hub", "kaggle", "keras"]
        assert published.classification == (not name.endswith("-features"))
    assert json.loads(json.dumps(PUBLISHED["imagenet-large"].accuracy))["top5"] == 0.962
    assert replace(PUBLISHED["imagenet-mobile"], origins=()).origins == ()
