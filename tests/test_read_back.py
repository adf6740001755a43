"""Every file that a command reads back may hold anything: that is one sentence, or a result."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nasnet_cli.albums.keywords import Keywords
from nasnet_cli.albums.sidecar import Sidecar
from nasnet_cli.errors import NasnetError
from support.cli import Result

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 2**31, 2**64, 1e308, float("nan"), "", "\x1b[31m", "\udc80", [], {}]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
RAW = st.sampled_from([b"", b"[" * 100_000, b"\xff\xfe", b"1" * 5000, b"null", b"{}", b'""', b"\0"])


@pytest.fixture(scope="module")
def kept(
    nasnet: Callable[..., Result], labelled_module: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with photos, their results, vectors and a module."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / "photos" / f"{number}.png")
    shutil.copytree(labelled_module, folder / "module")
    photos = ("photos", "-m", "module")
    nasnet("classify", *photos, "-o", "labels.jsonl", expect=0, cwd=folder)
    nasnet("classify", *photos, "-o", "labels.json", expect=0, cwd=folder)
    nasnet("embed", *photos, "-o", "vectors.npy", expect=0, cwd=folder)
    names = "".join(f"n0000000{number} class {number}\n" for number in range(7))
    (folder / "names.txt").write_text(names)
    (folder / "names.json").write_text(json.dumps([f"class {number}" for number in range(7)]))
    nasnet("sort", "labels.jsonl", "--into", "sorted", expect=0, cwd=folder)
    (folder / "config.toml").write_bytes(b'model = "builtin"')
    (folder / "config").mkdir()
    (folder / "config" / "nasnet").symlink_to("..")
    return folder


CASES = {
    "labels.jsonl": ("find", "dog", "labels.jsonl"),
    "labels.json": ("find", "dog", "labels.json"),
    "labels.jsonl.meta.json": (
        "classify", "photos", "-m", "module", "-o", "labels.jsonl", "--resume",
    ),
    "labels.jsonl.inputs": (
        "classify", "photos", "-m", "module", "-o", "labels.jsonl", "--resume",
    ),
    "vectors.jsonl": ("duplicates", "vectors.npy"),
    "vectors.npy.meta.json": ("duplicates", "vectors.npy"),
    "vectors.npy": ("duplicates", "vectors.npy"),
    "sorted/.nasnet-undo.jsonl": ("sort", "--undo", "sorted"),
    "names.txt": ("classify", "photos", "-m", "module", "--labels", "names.txt"),
    "names.json": ("classify", "photos", "-m", "module", "--labels", "names.json"),
    "module/assets.extra/nasnet.json": ("inspect", "module"),
    "module/assets.extra/labels.tsv": ("inspect", "module"),
    "config.toml": ("models", "default"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_file_holds_is_no_surprise(
    nasnet: Callable[..., Result], kept: Path, name: str, data: st.DataObject
) -> None:
    path = kept / name
    assert path.exists(), sorted(path.parent.iterdir())
    before = {file: file.read_bytes() for file in kept.iterdir() if file.is_file()}
    before[path] = path.read_bytes()
    try:
        path.write_bytes(data.draw(RAW) if data.draw(st.booleans()) else odd(before[path], data))
        done = nasnet(*CASES[name], cwd=kept, XDG_CONFIG_HOME=str(kept / "config"))
        assert done.exit_code in (0, 1, 3), done
        assert "Unexpected error" not in done.stderr, done
        assert "\x1b" not in done.stderr
    finally:
        path.parent.mkdir(exist_ok=True)  # undo has removed it
        for file, content in before.items():
            file.write_bytes(content)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag><rdf:li>dog</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
PARTS = (b"dc:subject", b"rdf:Bag", b"rdf:li", b"rdf:Description", b"rdf:RDF", b"dog", b"xmlns:dc")


@given(data=st.data())
def test_whatever_a_sidecar_holds_is_no_surprise(data: st.DataObject) -> None:
    text = XMP
    for part in data.draw(st.lists(st.sampled_from(PARTS), max_size=3)):
        other = data.draw(st.sampled_from([*PARTS, b"", b"\0", b"&#0;", b"\xff", b"<a>" * 9999]))
        text = text.replace(part, other, data.draw(st.integers(1, 2)))
    with contextlib.suppress(NasnetError):
        sidecar = Sidecar(text, "a.xmp")
        sidecar.set_keywords(Keywords(("cat",), (("animal", "cat"),)))
        assert b"cat" in sidecar.data()


def odd(content: bytes, data: st.DataObject) -> bytes:
    """Return the content with one value in its JSON, or one of its bytes, changed."""
    lines = content.splitlines(keepends=True)
    whole = _parsed(content)
    number = 0 if whole is not None else data.draw(st.integers(0, len(lines) - 1))
    found = whole if whole is not None else _parsed(lines[number])
    if not isinstance(found, dict | list) or not found:
        place = data.draw(st.integers(0, len(content) - 1))
        return content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]
    part: Any = found
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(part[key], dict | list) or not part[key] or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(ODD)
    text = json.dumps(found).encode()
    if whole is not None:
        return text
    return b"".join([*lines[:number], text + b"\n", *lines[number + 1 :]])


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
