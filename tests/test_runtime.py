"""The OpenVINO runtime: the same numbers however it is fed, and a cache that heals itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nasnet_cli import cache
from nasnet_cli.errors import ModelError
from nasnet_cli.runtime import openvino_passes
from nasnet_cli.runtime.base import LARGEST_REQUEST, Plan
from nasnet_cli.runtime.openvino import OpenVINORuntime
from support import golden
from support.cli import WATCHDOG
from support.models import open_saved_model


@pytest.fixture
def plan(tiny_module):
    module = open_saved_model(tiny_module)
    return Plan(
        module,
        (
            ("logits", module.classification.output.tensor),
            ("features", module.features.output.tensor),
        ),
        module.image_size,
    )


def with_digest(plan, digest):
    """The plan of a model with the same content and another digest."""
    model = replace(plan.model)
    vars(model)["digest"] = digest
    return replace(plan, model=model)


def make_images(count):
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), np.uint8)


def run(runtime, batches):
    pending = [runtime.submit(batch) for batch in batches]
    results = [request.result() for request in pending]
    return {
        name: np.concatenate([result[name] for result in results])
        for name in ("logits", "features")
    }


def test_result_does_not_depend_on_the_batch(plan, cache_folder):
    runtime = OpenVINORuntime(plan)
    images = make_images(23)
    ones = run(runtime, (images[i : i + 1] for i in range(23)))
    assert ones["logits"].shape == (23, 7) and ones["features"].shape == (23, 192)
    for size in range(2, LARGEST_REQUEST + 1):
        got = run(runtime, (images[i : i + size] for i in range(0, 23, size)))
        assert all(got[name].tobytes() == ones[name].tobytes() for name in ones)
    more = run(OpenVINORuntime(plan, threads=3), (images[i : i + 4] for i in range(0, 23, 4)))
    assert all(more[name].tobytes() == ones[name].tobytes() for name in ones)


@pytest.mark.parametrize(("side", "count"), [(32, 4), (112, 4), (160, 3), (224, 2), (331, 1)])
def test_request_size_depends_on_the_image_size(side, count, plan):
    assert replace(plan, size=(side, side)).request_size == count


def test_compiled_network_has_no_transpositions(plan, cache_folder, monkeypatch):
    def turned(runtime):
        operations = runtime._compiled.get_runtime_model().get_ops()
        return [
            operation
            for operation in operations
            if operation.get_rt_info()["layerType"].astype(str) == "Transpose"
            and len(operation.get_output_shape(0)) == 4
        ]

    images = make_images(8)
    batches = [images[:4], images[4:]]
    runtime = OpenVINORuntime(plan)
    got = run(runtime, batches)
    monkeypatch.setattr(openvino_passes, "rewrite", lambda model: None)
    plain = OpenVINORuntime(with_digest(plan, "another"))
    as_read = run(plain, batches)
    assert all(got[name].tobytes() == as_read[name].tobytes() for name in got)
    assert not turned(runtime)
    assert turned(plain)


@pytest.mark.parametrize(("compiling", "reading"), [(1, 3), (3, 1)])
def test_compiled_model_is_shared_between_thread_counts(compiling, reading, plan, cache_folder):
    first = OpenVINORuntime(plan, threads=compiling)
    (blob,) = blobs(cache_folder)
    written = blob.stat().st_mtime_ns
    second = OpenVINORuntime(plan, threads=reading)
    assert [path.stat().st_mtime_ns for path in blobs(cache_folder)] == [written]
    batches = [make_images(4), make_images(4)[::-1], make_images(3)]
    results = run(first, batches), run(second, batches)
    assert all(results[0][name].tobytes() == results[1][name].tobytes() for name in results[0])


def test_bytes_and_floats_give_the_same_result(plan, cache_folder):
    images = make_images(4)
    by_bytes = run(OpenVINORuntime(plan), [images])
    floats = images.astype(np.float32) / np.float32(255)
    by_floats = run(OpenVINORuntime(replace(plan, pixels="float32")), [floats])
    for name, values in by_bytes.items():
        np.testing.assert_allclose(values, by_floats[name], rtol=0, atol=2e-6)


def test_array_may_be_reused_after_submit(plan, cache_folder):
    runtime = OpenVINORuntime(plan)
    images = make_images(24).reshape(6, 4, 32, 32, 3)
    expected = run(runtime, list(images))

    def one_array():
        array = np.empty_like(images[0])
        for batch in images:
            array[:] = batch
            yield array

    got = run(runtime, one_array())
    assert got["logits"].tobytes() == expected["logits"].tobytes()


def blobs(cache_folder):
    return sorted((cache_folder / "compiled").iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_damaged_cache_file_is_replaced(damage, plan, cache_folder):
    expected = run(OpenVINORuntime(plan), [make_images(4)])
    (blob,) = blobs(cache_folder)
    whole = blob.read_bytes()
    if damage == "foreign":
        cache.store(blob, b"whole by its checksum, but nothing that OpenVINO wrote" * 50)
    else:
        broken = {"cut": whole[: len(whole) // 2], "empty": b""}
        blob.write_bytes(broken.get(damage, whole[:5000] + b"\xff" + whole[5001:]))
    got = run(OpenVINORuntime(plan), [make_images(4)])
    assert got["logits"].tobytes() == expected["logits"].tobytes()
    assert blobs(cache_folder) == [blob]
    assert len(cache.load(blob)) == pytest.approx(len(whole), rel=0.01)


def test_unwritable_cache_is_not_an_error(plan, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NASNET_CACHE_DIR", str(tmp_path / "file"))
    assert run(OpenVINORuntime(plan), [make_images(1)])["logits"].shape == (1, 7)


def test_changed_module_is_compiled_again(plan, cache_folder):
    for digest in ("one", "other", "one"):
        OpenVINORuntime(with_digest(plan, digest))
    assert len(blobs(cache_folder)) == 2


def test_processes_that_start_at_once_share_one_cache(plan, cache_folder, tiny_module, tmp_path):
    from PIL import Image

    Image.fromarray(make_images(1)[0]).save(tmp_path / "one.png")
    command = [sys.executable, "-m", "nasnet_cli", "classify", str(tmp_path / "one.png")]
    command += ["-m", str(tiny_module), "-q"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = {process.communicate(timeout=WATCHDOG)[0] for process in started}
    assert len(outputs) == 1 and all(process.returncode == 0 for process in started)
    assert len(blobs(cache_folder)) == 1


def test_module_that_openvino_cannot_read_is_an_error(plan, cache_folder, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    model = replace(plan.model, path=tmp_path)
    with pytest.raises(ModelError, match="OpenVINO cannot read the model"):
        OpenVINORuntime(replace(plan, model=model))


def test_right_output_is_taken_in_every_process(golden_module, tmp_path):
    """Two signatures share an output's name; which gets it changed between processes."""
    np.save(tmp_path / "noise.npy", golden.noise(1, 224))
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from nasnet_cli.model import load_model\n"
        f"model = load_model({str(golden_module)!r}, preprocessing={{'resample': 'tf1'}})\n"
        f"noise = np.load({str(tmp_path / 'noise.npy')!r})\n"
        "got = model.runtime(('features', 'logits')).submit(noise).result()\n"
        "print(got['logits'].shape, got['features'].shape, float(got['logits'][0, 0]))\n"
    )
    seen = set()
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seen.add(done.stdout)
    (line,) = seen
    assert line.startswith("(1, 1001) (1, 1056)")
    assert float(line.split()[-1]) == pytest.approx(
        float(golden.outputs("mobile")["logits"][0, 0]), abs=1e-5
    )


def test_bf16_is_close_or_refused_by_an_old_cpu(plan, cache_folder):
    from nasnet_cli.quiet import openvino

    in_bf16 = replace(plan, precision="bf16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ModelError, match="does not support bf16"):
            OpenVINORuntime(in_bf16)
        return
    exact = run(OpenVINORuntime(plan), [make_images(4)])["logits"]
    runtime = OpenVINORuntime(in_bf16)
    quick = run(runtime, [make_images(4)])["logits"]
    assert runtime.precision == "bf16"
    assert 0 < np.abs(quick - exact).max() < 0.05 * np.abs(exact).max()
