"""nasnet embed as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path, cache_folder):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(2)
    for i in range(6):
        pixels = random.integers(0, 256, (40 + i, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes(b"broken")
    return folder


def test_sidecar_lines_match_the_vectors(nasnet, photos, tiny_module, tmp_path):
    out = tmp_path / "vectors.npy"
    done = nasnet("embed", photos, "-m", tiny_module, "-o", out)
    assert done.exit_code == 3
    assert "5 embedded; 1 error: 1 " in done.stderr
    vectors = np.load(out, mmap_mode="r")
    assert (vectors.shape, vectors.dtype) == ((5, 192), np.float32)
    lines = [json.loads(line) for line in (tmp_path / "vectors.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(photos / f"{i}.png") for i in range(6)]
    assert [line.get("row") for line in lines] == [0, 1, 2, None, 3, 4]
    assert lines[3]["error"]["kind"] == "not_an_image"
    for i, row in ((0, 0), (5, 4)):
        alone = tmp_path / f"alone{i}.npy"
        nasnet("embed", photos / f"{i}.png", "-m", tiny_module, "-o", alone)
        assert np.load(alone)[0].tobytes() == vectors[row].tobytes()
    meta = json.loads((tmp_path / "vectors.npy.meta.json").read_text())
    assert meta["summary"]["ok"] == 5 and meta["options"]["dtype"] == "float32"


def test_vectors_agree_with_tensorflow(nasnet, photos, tiny_module, tmp_path):
    import warnings

    from nasnet_cli.quiet import tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub as hub
    nasnet("embed", photos / "0.png", "-m", tiny_module, "-o", tmp_path / "v.npy")
    image = Image.open(photos / "0.png")
    w, h = image.size
    box = (w * 0.0625, h * 0.0625, w * 0.9375, h * 0.9375)
    pixels = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
    images = tf.constant(np.asarray(pixels, np.float32)[None] / np.float32(255))
    expected = hub.load(str(tiny_module)).signatures["image_feature_vector"](images)["default"]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, rtol=0, atol=1e-5)


def test_normalized_float16_vectors(nasnet, photos, tiny_module, tmp_path):
    out = tmp_path / "vectors.npy"
    nasnet("embed", photos, "-m", tiny_module, "-o", out, "--normalize", "--dtype", "float16")
    vectors = np.load(out)
    assert vectors.dtype == np.float16
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)


def test_failing_inputs_alone_give_an_empty_array(nasnet, photos, tiny_module, tmp_path):
    out = tmp_path / "vectors.npy"
    assert nasnet("embed", photos / "3.png", "-m", tiny_module, "-o", out).exit_code == 3
    assert np.load(out).shape == (0, 192)


def test_default_input_is_the_current_folder(nasnet, photos, tiny_module, tmp_path):
    done = nasnet("embed", "-m", tiny_module, "--out", tmp_path / "v.npy", cwd=photos)
    assert done.exit_code == 3
    assert np.load(tmp_path / "v.npy").shape == (5, 192)


def test_existing_file_or_sidecar_is_kept(nasnet, photos, tiny_module, tmp_path):
    for name in ("vectors.npy", "vectors.jsonl"):
        (tmp_path / name).write_text("mine")
        done = nasnet("embed", photos, "-m", tiny_module, "-o", tmp_path / "vectors.npy")
        assert (done.exit_code, (tmp_path / name).read_text()) == (1, "mine")
        (tmp_path / name).unlink()


def test_unknown_extension_is_a_usage_error(nasnet, photos, tiny_module, tmp_path):
    done = nasnet("embed", photos, "-m", tiny_module, "-o", tmp_path / "vectors.txt")
    assert done.exit_code == 2 and "Use .npy" in done.stderr
