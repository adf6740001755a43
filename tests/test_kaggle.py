"""A published model from Kaggle, fetched by kagglehub from a server that imitates Kaggle."""

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
    """Yield a server that has the model; no other origin has it, and nobody is logged in."""
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


def kaggle_failure():
    """Return the reason that the error gives for Kaggle when no origin has the model."""
    with pytest.raises(ModelError) as caught:
        resolve_path(NAME)
    message = str(caught.value)
    assert "\n" not in message
    before, _, rest = message.partition("Kaggle's copy of the hub: ")
    assert "TF-Slim's checkpoint" in before
    return rest.partition(". Fetch https://")[0]


def test_model_comes_from_kaggle_once(kaggle, module):
    listener = Ear()
    folder = resolve_path(NAME, listener)
    assert same(folder, module)
    assert sorted(kaggle.requested) == sorted(kaggle.files)
    (note,) = listener.notes
    assert f"{NAME} comes from Kaggle's copy of the hub; not from TF-Slim's" in note
    assert resolve_path(NAME) == folder
    assert len(kaggle.requested) == len(kaggle.files)
    assert store.read_record(folder.name).source == f"kaggle:{HANDLE}"
    assert store.fault(folder.name, thorough=True) is None


def test_kagglehub_prints_nothing(kaggle):
    nasnet = [sys.executable, "-m", "nasnet_cli"]
    done = subprocess.run(
        [*nasnet, "models", "get", NAME], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith(f"{NAME} comes from Kaggle's copy of the hub; not from")
    assert done.stderr.count("\n") == 1
    done = subprocess.run([*nasnet, "inspect", NAME], capture_output=True, text=True, check=True)
    assert "unsafe operations none" in done.stdout
    assert done.stderr == ""


def test_login_is_kagglehubs(kaggle, monkeypatch):
    kaggle.token = "secret"
    assert kaggle_failure().startswith("the server denies access (HTTP 403)")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    assert resolve_path(NAME).is_dir()


def test_http_errors_are_reported(kaggle):
    kaggle.status = 404
    assert kaggle_failure() == "there is no such model (HTTP 404)"
    kaggle.status = 500
    assert kaggle_failure() == "the server answered HTTP 500"


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_download_leaves_nothing_and_is_fetched_again(damage, kaggle, module, cache_folder):
    setattr(kaggle, damage, "saved_model.pb")
    assert kaggle_failure() == "the download was cut off or changed on the way"
    assert list((cache_folder / "modules").iterdir()) == []
    setattr(kaggle, damage, "")
    assert same(resolve_path(NAME), module)


def test_missing_connection_is_reported(kaggle, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert kaggle_failure() == "there is no connection to Kaggle"


def test_damaged_copy_in_kagglehubs_cache_is_fetched_again(kaggle, module, tmp_path):
    shutil.rmtree(resolve_path(NAME))
    (copy,) = (tmp_path / "kagglehub").rglob("saved_model.pb")
    copy.write_bytes(b"\xff\xff")
    listener = Ear()
    assert same(resolve_path(NAME, listener), module)
    assert any(f"kagglehub's copy of {HANDLE} is damaged" in note for note in listener.notes)


def test_changed_content_is_refused(kaggle, tmp_path):
    shutil.rmtree(resolve_path(NAME))
    shutil.rmtree(tmp_path / "kagglehub")
    kaggle.files["assets/more"] = b"more"
    with pytest.raises(ChecksumError, match=r"other bytes .* than when it was first"):
        resolve_path(NAME)


def test_missing_kagglehub_names_the_extra(kaggle, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it weren't installed
    assert kaggle_failure() == "it needs pip install 'nasnet-cli[kaggle]'"
    assert kaggle.requested == []
