"""`nasnet models`, the default model, and what inspect says of a model that is not here."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.cli import NASNET
from support.hub_server import Answer, hub_server, tar_of
from support.terminal import run_on_terminal

HUB_MOBILE = "/tfhub.dev/google/imagenet/nasnet_mobile/classification/1"
NAMES = [
    "builtin",
    "imagenet-mobile",
    "imagenet-mobile-features",
    "imagenet-large",
    "imagenet-large-features",
]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path, cache_folder):
    """A user of the test's own: a configuration, a cache, no proxy and no Kaggle."""
    monkeypatch.delenv("NASNET_MIRROR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))


@pytest.fixture
def hub(monkeypatch, labelled_module):
    """A mirror on which a small module stands in for imagenet-mobile."""
    with hub_server() as server:
        monkeypatch.setenv("NASNET_MIRROR", server.url)
        server.put(HUB_MOBILE, Answer(tar_of(labelled_module), needs_format=True))
        yield server


@pytest.fixture
def photo(tmp_path):
    return draw(tmp_path / "photo.png")


def draw(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config" / "nasnet" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def compiled(nasnet, tmp_path_factory):
    """A cache of a user who has used the built-in model, and nothing else."""
    folder = tmp_path_factory.mktemp("compiled")
    photo = draw(folder / "photo.png")
    cache = folder / "cache"
    nasnet("classify", photo, "-m", "builtin", expect=0, NASNET_CACHE_DIR=str(cache))
    return cache


@pytest.fixture
def warm_cache(compiled, cache_folder):
    """The test's own cache, with the built-in model, which takes a second to compile."""
    return Path(shutil.copytree(compiled, cache_folder, dirs_exist_ok=True))


def model_of(out):
    return json.loads(out.with_name(f"{out.name}.meta.json").read_text())["model"]["location"]


@pytest.mark.parametrize("arguments", [["--json"], ["list", "--json"]])
def test_the_list_says_what_is_known_and_what_is_here(nasnet, hub, arguments):
    listed = json.loads(nasnet("models", *arguments, expect=0).stdout)
    assert listed["default"] == "builtin"
    assert [model["name"] for model in listed["models"]] == NAMES
    builtin, mobile, features, large, _ = listed["models"]
    assert builtin["path"] and builtin["download_bytes"] == 0 and builtin["accuracy"]["top1"] > 0
    assert (mobile["classes"], mobile["image_size"], mobile["path"]) == (1001, [224, 224], None)
    assert mobile["accuracy"]["top1"] == 0.740 and mobile["licence"] == "Apache-2.0"
    # 5.3 and 88.9 million weights are published.
    weights = [model["download_bytes"] / 4e6 for model in (mobile, large)]
    assert weights == pytest.approx([5.3, 88.9], abs=0.1)
    assert features["classes"] is None and features["accuracy"] is None
    assert hub.requests == []


def test_get_fetches_once_and_the_list_tells(nasnet, hub):
    assert "imagenet-mobile" in nasnet("models", expect=0).stdout
    folder = nasnet("models", "get", "imagenet-mobile", expect=0).stdout.strip()
    assert Path(folder, "saved_model.pb").is_file()
    requests = len(hub.requests)
    assert nasnet("models", "get", "imagenet-mobile", expect=0).stdout.strip() == folder
    assert len(hub.requests) == requests
    here = {
        line.split()[-1]
        for line in nasnet("models", expect=0).stdout.splitlines()
        if "imagenet-mobile " in line
    }
    assert here == {"yes"}


def test_inspect_of_a_published_name_fetches_nothing(nasnet, hub):
    text = nasnet("inspect", "imagenet-mobile", expect=0).stdout
    for words in ("nasnet models get imagenet-mobile", "224x224", "1,001", "21 MB", "74.0 %"):
        assert words in text
    fields = json.loads(nasnet("inspect", "imagenet-large", "--json", expect=0).stdout)
    assert (fields["here"], fields["classes"], fields["licence"]) == (False, 1001, "Apache-2.0")
    assert hub.requests == []
    nasnet("models", "get", "imagenet-mobile", expect=0)
    fields = json.loads(nasnet("inspect", "imagenet-mobile", "--json", expect=0).stdout)
    assert fields["classes"] == 7 and fields["signatures"]


def test_the_default_is_used_until_another_is_named(
    nasnet, hub, photo, tmp_path, labelled_module, warm_cache
):
    first, second, third = (tmp_path / f"{name}.jsonl" for name in "abc")
    nasnet("classify", photo, "-o", first, expect=0)
    assert model_of(first) == "built-in"
    told = nasnet("models", "default", "imagenet-mobile", expect=0)
    assert "imagenet-mobile" in told.stderr
    assert nasnet("models", "default", expect=0).stdout == "imagenet-mobile\n"
    nasnet("classify", photo, "-o", second, expect=0)
    nasnet("embed", photo, "-o", tmp_path / "v.npy", expect=0)
    assert model_of(second) == model_of(tmp_path / "v.npy") == "imagenet-mobile"
    assert json.loads(nasnet("inspect", "--json", expect=0).stdout)["classes"] == 7
    # A run that another model began is refused, and names both.
    refused = nasnet("classify", photo, "-o", first, "--resume", expect=1).stderr
    assert "was started with --model builtin" in refused
    assert "this run has --model imagenet-mobile" in refused
    nasnet("classify", photo, "-o", first, "--resume", "-m", "builtin", expect=0)
    nasnet("classify", photo, "-o", third, expect=0, NASNET_MODEL=str(labelled_module))
    assert model_of(third) == str(labelled_module)
    nasnet("models", "default", "builtin", expect=0)
    nasnet("classify", photo, "-o", third, "--overwrite", expect=0)
    assert model_of(third) == "built-in"


def test_a_job_in_shards_is_refused_too_with_another_model(
    nasnet, hub, photo, tmp_path, warm_cache
):
    job = ("classify", photo, "-o", tmp_path / "job", "--shards", 1)
    nasnet(*job, expect=0)
    nasnet("models", "default", "imagenet-mobile", expect=0)
    refused = nasnet(*job, expect=1).stderr
    assert "was started with --model builtin" in refused
    assert "this run has --model imagenet-mobile" in refused


def test_a_model_that_cannot_be_fetched_does_not_become_the_default(nasnet, config):
    done = nasnet(
        "models", "default", "imagenet-large", expect=1, NASNET_MIRROR="http://127.0.0.1:9"
    )
    first, second, end = done.stderr.split("\n")
    assert first.startswith("Error: imagenet-large is not in the cache") and end == ""
    assert second.startswith("Fetch https://") and "/downloads/nasnet-a_large" in second
    assert not config.exists()


def test_a_path_stays_the_default_in_other_folders(nasnet, labelled_module, photo, tmp_path):
    nasnet("models", "default", labelled_module.name, cwd=labelled_module.parent, expect=0)
    nasnet("classify", photo, "-o", tmp_path / "a.csv", cwd=tmp_path, expect=0)
    assert model_of(tmp_path / "a.csv") == str(labelled_module)
    assert str(labelled_module) in nasnet("models", expect=0).stdout


def test_the_rest_of_the_file_stays_also_through_a_link(nasnet, config, tmp_path):
    dotfiles = tmp_path / "dotfiles.toml"
    dotfiles.write_text('# mine\nmodel = "imagenet-large" # big\n# end\n')
    config.symlink_to(dotfiles)
    nasnet("models", "default", "builtin", expect=0)
    assert dotfiles.read_text() == '# mine\nmodel = "builtin"\n# end\n'
    assert config.is_symlink()
    dotfiles.write_text("# nothing\n")
    nasnet("models", "default", "builtin", expect=0)
    assert dotfiles.read_text() == 'model = "builtin"\n# nothing\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"model = imagenet", "is not TOML"),
        (b'modle = "builtin"', "unknown key 'modle'"),
        (b"model = 3", "not a text"),
        (b'model = ""', "not a text"),
        (b'model = "models/mine"', "names the model 'models/mine'"),
        (b'model = "\xff"', "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_named_and_never_ignored(nasnet, config, photo, content, words, warm_cache):
    config.write_bytes(content)
    for command in (["classify", photo], ["inspect"], ["models"], ["models", "default", "builtin"]):
        error = nasnet(*command, expect=1).stderr
        assert str(config) in error and words in error
    assert config.read_bytes() == content
    # Who names a model does without it.
    nasnet("inspect", "builtin", expect=0)
    nasnet("classify", photo, "-m", "builtin", expect=0)


def test_a_line_that_only_looks_like_the_key_is_not_changed(nasnet, config):
    content = '"model" = "imagenet-large"\n'
    config.write_text(content)
    error = nasnet("models", "default", "builtin", expect=1).stderr
    assert str(config) in error
    assert config.read_text() == content


def test_help_needs_no_configuration(nasnet, config):
    config.write_text("nonsense")
    nasnet("classify", "--help", expect=0)


def test_the_built_in_model_introduces_itself_once_a_day_on_a_terminal(photo, warm_cache):
    def noted(*options):
        session = run_on_terminal([*NASNET, "classify", photo, *options], stdout_too=True)
        assert session.exit_code == 0
        at = [i for i, line in enumerate(session.screen) if "built-in model" in line]
        return session.screen[at[0] : at[0] + 2] if at else []

    assert noted("--model", "builtin") == noted("--quiet") == []
    about, better = noted()
    assert "top-1" in about and better.endswith("nasnet models default imagenet-mobile")
    assert max(len(about), len(better)) < 100
    assert noted() == []
    stamp = warm_cache / "introduced"
    os.utime(stamp, (time.time() - 90_000,) * 2)
    assert len(noted()) == 2


def test_in_a_pipe_there_is_no_introduction(nasnet_process, photo, warm_cache):
    done = nasnet_process("classify", photo, expect=0)
    assert "built-in" not in done.stderr and done.stderr.count("\n") == 1


def test_a_configuration_that_is_a_pipe_or_nested_too_deeply_is_named(nasnet, config):
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("model = " + "[" * 50_000)
    assert "nested too deeply" in nasnet("models", "default", expect=1).stderr
    if hasattr(os, "mkfifo"):
        config.unlink()
        os.mkfifo(config)
        assert "is not a file" in nasnet("models", "default", expect=1).stderr
