"""A published module from Kaggle, by kagglehub itself from a server that speaks as Kaggle does."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from nasnet_cli.errors import ModelError
from nasnet_cli.models.hub import store
from nasnet_cli.models.hub.fetch import ChecksumError
from support import crafted
from support.hub_server import hub_server
from support.kaggle_server import kaggle_server
from support.models import resolve_path
from test_resolve import Ear, same

pytest.importorskip("kagglehub", reason="kagglehub isn't installed (the extra [kaggle])")
pytestmark = pytest.mark.usefixtures("cache_folder")

NAME = "imagenet-mobile-features"
HANDLE = "google/nasnet/tensorFlow2/mobile-feature-vector/2"


@pytest.fixture
def module(tmp_path):
    return crafted.write(tmp_path / "made" / "module", crafted.meta_graph())


@pytest.fixture
def kaggle(tmp_path, monkeypatch, module):
    """The module at Kaggle, and nowhere else; nobody is logged in."""
    with hub_server() as nothing, kaggle_server() as server:
        server.put(module)
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "HTTP_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "NASNET_MIRROR": nothing.url,
            "TFHUB_CACHE_DIR": str(tmp_path / "tfhub"),
            "KAGGLEHUB_CACHE": str(tmp_path / "kagglehub"),
            "HOME": str(tmp_path / "home"),
            "KAGGLE_CONFIG_DIR": str(tmp_path / "home"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": server.url,
            "no_proxy": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def at_kaggle():
    """What the error says about Kaggle's place, when nothing was had anywhere."""
    with pytest.raises(ModelError) as caught:
        resolve_path(NAME)
    said = str(caught.value)
    assert "\n" not in said
    before, _, rest = said.partition("Kaggle's copy of the hub: ")
    assert "TF-Slim's checkpoint" in before
    return rest.partition(". Connect and run again")[0]


def test_a_module_comes_from_kaggle_once(kaggle, module):
    ear = Ear()
    folder = resolve_path(NAME, ear)
    assert same(folder, module)
    assert sorted(kaggle.asked) == sorted(kaggle.files)
    (note,) = ear.notes
    assert f"{NAME} comes from Kaggle's copy of the hub; not from TF-Slim's" in note
    assert resolve_path(NAME) == folder
    assert len(kaggle.asked) == len(kaggle.files)
    assert store.read_record(folder.name).source == f"kaggle:{HANDLE}"
    assert store.fault(folder.name, thorough=True) is None


def test_a_process_of_its_own_keeps_kagglehub_quiet(kaggle):
    command = [sys.executable, "-m", "nasnet_cli", "inspect", NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "unsafe operations none" in done.stdout
    assert done.stderr.startswith(f"{NAME} comes from Kaggle's copy of the hub; not from")
    assert done.stderr.count("\n") == 1


def test_a_login_is_kagglehubs(kaggle, monkeypatch):
    kaggle.token = "secret"
    assert at_kaggle().startswith("the server denies access (HTTP 403)")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    assert resolve_path(NAME).is_dir()


def test_what_kaggle_has_not_got_or_cannot_give(kaggle):
    kaggle.status = 404
    assert at_kaggle() == "there is no such model (HTTP 404)"
    kaggle.status = 500
    assert at_kaggle() == "the server answered HTTP 500"


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_broken_download_leaves_nothing_and_is_made_good(how, kaggle, module, cache_folder):
    setattr(kaggle, how, "saved_model.pb")
    assert at_kaggle() == "the download was cut off or changed on the way"
    assert list((cache_folder / "modules").iterdir()) == []
    setattr(kaggle, how, "")
    assert same(resolve_path(NAME), module)


def test_without_a_connection(kaggle, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert at_kaggle() == "there is no connection to Kaggle"


def test_a_broken_copy_of_kagglehubs_is_fetched_again(kaggle, module, tmp_path):
    shutil.rmtree(resolve_path(NAME))
    (copy,) = (tmp_path / "kagglehub").rglob("saved_model.pb")
    copy.write_bytes(b"\xff\xff")
    ear = Ear()
    assert same(resolve_path(NAME, ear), module)
    assert any(f"kagglehub's copy of {HANDLE} is damaged" in note for note in ear.notes)


def test_other_bytes_than_the_first_time_are_refused(kaggle, tmp_path):
    shutil.rmtree(resolve_path(NAME))
    shutil.rmtree(tmp_path / "kagglehub")
    kaggle.files["assets/more"] = b"more"
    with pytest.raises(ChecksumError, match=r"other bytes .* than when it was first"):
        resolve_path(NAME)


def test_without_kagglehub_the_extra_is_named(kaggle, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it weren't installed
    assert at_kaggle() == "it needs pip install 'nasnet-cli[kaggle]'"
    assert kaggle.asked == []
