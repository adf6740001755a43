"""The TensorFlow runtime: the same bytes however it is fed, and its errors in words."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.errors import ModelError
from nasnet_cli.runtime.base import Plan
from nasnet_cli.runtime.openvino import OpenVINORuntime
from support.cli import run_in_process, run_process
from support.models import open_saved_model

SIZE = 32


@pytest.fixture(scope="session")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module whose sums are long enough to be cut up between threads."""
    from nasnet_cli.quiet import tf

    random = np.random.default_rng(8)

    def variable(*shape: int) -> Any:
        return tf.Variable(random.normal(0, np.prod(shape[:-1]) ** -0.5, shape), dtype=tf.float32)

    module = tf.Module()
    module.kernels = [variable(3, 3, 3, 64), variable(3, 3, 64, 256), variable(256, 10)]

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)])
    def features(images: Any) -> Any:
        inner = tf.nn.relu(tf.nn.conv2d(images - 0.5, module.kernels[0], 1, "SAME"))
        return {
            "default": tf.reduce_mean(tf.nn.conv2d(inner, module.kernels[1], 1, "SAME"), [1, 2])
        }

    @tf.function(input_signature=features.input_signature)
    def classify(images: Any) -> Any:
        return {"default": features(images)["default"] @ module.kernels[2]}

    folder = tmp_path_factory.mktemp("modules") / "convolutions"
    signatures = {"image_classification": classify, "image_feature_vector": features}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture
def plan(convolutions: Path) -> Plan:
    module = open_saved_model(convolutions)
    assert module.classification is not None and module.features is not None
    return Plan(
        module,
        (
            ("logits", module.classification.output.tensor),
            ("features", module.features.output.tensor),
        ),
        (SIZE, SIZE),
    )


def make_images(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def run(runtime: Any, batches: Any) -> dict[str, np.ndarray]:
    pending = [runtime.submit(batch) for batch in batches]
    results = [request.result() for request in pending]
    return {
        name: np.concatenate([result[name] for result in results])
        for name in ("logits", "features")
    }


# In a process of its own, as threads are fixed before TensorFlow computes anything.
STABLE = """
import hashlib, os, sys
import numpy as np

if sys.argv[3] == "one core" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from nasnet_cli.model import load_model
from nasnet_cli.runtime.tensorflow import TensorFlowRuntime

plan, threads = load_model(sys.argv[1])._plan(("logits", "features")), int(sys.argv[2])
images = np.random.default_rng(3).integers(0, 256, (23, 32, 32, 3), np.uint8)
runtime = TensorFlowRuntime(plan, threads=threads)
for size in (1, 2, 3, 4):
    pending = [runtime.submit(images[i : i + size]) for i in range(0, 23, size)]
    results = [request.result() for request in pending]
    for name in ("logits", "features"):
        values = np.concatenate([result[name] for result in results])
        print(name, values.shape, hashlib.sha256(values.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_result_depends_on_the_image_only(plan: Plan) -> None:
    lines: set[str] = set()
    for threads, cores in (("1", "one core"), ("2", "all"), ("5", "all")):
        command = [sys.executable, "-c", STABLE, str(plan.model.path), threads, cores]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        lines.update(done.stdout.splitlines())
    assert len(lines) == 2
    assert {line[: line.index(")") + 1] for line in lines} == {
        "logits (23, 10)",
        "features (23, 256)",
    }


def test_results_agree_with_openvino(plan: Plan, cache_folder: Path) -> None:
    from nasnet_cli.runtime.tensorflow import TensorFlowRuntime

    images = make_images(7)
    floats = images.astype(np.float32) / np.float32(255)
    expected = run(OpenVINORuntime(plan), [images[:4], images[4:]])
    by_bytes = run(TensorFlowRuntime(plan), [images[:4], images[4:]])
    by_floats = run(TensorFlowRuntime(replace(plan, pixels="float32")), [floats[:4], floats[4:]])
    for name, values in expected.items():
        assert np.ptp(values, axis=0).max() > 0.01
        np.testing.assert_allclose(by_bytes[name], values, rtol=0, atol=1e-5)
        np.testing.assert_allclose(by_floats[name], values, rtol=0, atol=1e-5)


def test_array_may_be_reused_after_submit(plan: Plan) -> None:
    from nasnet_cli.runtime.tensorflow import TensorFlowRuntime

    runtime = TensorFlowRuntime(plan)
    images = make_images(24).reshape(6, 4, SIZE, SIZE, 3)
    expected = run(runtime, list(images))

    def one_array() -> Any:
        array = np.empty_like(images[0])
        for batch in images:
            array[:] = batch
            yield array

    got = run(runtime, one_array())
    assert got["logits"].tobytes() == expected["logits"].tobytes()


def test_unsupported_plans_are_errors(plan: Plan, tmp_path: Path) -> None:
    from nasnet_cli.runtime.tensorflow import TensorFlowRuntime

    with pytest.raises(ModelError, match="in f32, not in bf16"):
        TensorFlowRuntime(replace(plan, precision="bf16"))
    with pytest.raises(ModelError, match="no signature has the output nowhere:0"):
        TensorFlowRuntime(replace(plan, outputs=(("logits", "nowhere:0"),)))
    with pytest.raises(ModelError, match="TensorFlow cannot load the model in"):
        TensorFlowRuntime(replace(plan, size=(SIZE, SIZE + 1)))


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_commands_give_the_same_bytes_for_any_workers(
    command: str, convolutions: Path, tmp_path: Path, cache_folder: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(make_images(9)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    """In this process and in one of its own, where TensorFlow would print."""
    made = []
    for workers, run_command in ((1, run_in_process), (8, run_process)):
        out = tmp_path / f"{workers}{'.npy' if command == 'embed' else '.jsonl'}"
        arguments = [command, "photos", "-m", convolutions, "--runtime", "tensorflow", "-o", out]
        done = run_command(*arguments, "--workers", workers, cwd=tmp_path, expect=0)
        (summary,) = done.stderr.splitlines()  # and not a line of TensorFlow's
        assert summary.startswith("9 images: 9 ")
        made.append((out.read_bytes(), Path(f"{out}.meta.json").read_bytes()))
    assert made[0] == made[1]
    recorded = json.loads(made[0][1])["runtime"]
    assert recorded["name"] == "tensorflow" and recorded["precision"] == "f32"
