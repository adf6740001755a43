"""Models that could touch files, the network or run code are refused before anything runs them.

TensorFlow builds the models and the real command gets them; with --allow-unsafe-ops they do their
harm, so that no test passes because an attack does not work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasnet_cli.errors import ModelError
from nasnet_cli.model import load_model
from support.cli import Result, run_in_process

SECRET = "a line that nobody may read"


def write_module(
    folder: Path, act: Callable[[Any], Any] | None, helper: Any = None, reads: bool = False
) -> Path:
    """A classifier of 8x8 images that does something else first.

    With reads the logits are more by the length of the text that act gives, as TensorFlow leaves
    out reading what nobody wants.
    """
    from nasnet_cli.quiet import tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)], autograph=False)
    def classify(images: Any) -> Any:
        done = [] if act is None else [act(images)]
        with tf.control_dependencies([each for each in done if each is not None]):
            logits = tf.reduce_mean(images, [1, 2])
        if reads:
            logits += tf.cast(tf.strings.length(done[0]), tf.float32)
            logits = tf.linalg.matmul(logits, tf.eye(3))  # a last layer makes logits of anything
        return {"default": logits}

    if helper is not None:
        module.helper = tf.function(helper, input_signature=[])
    tf.saved_model.save(module, str(folder), signatures={"image_classification": classify})
    return folder


def attacks(target: Path) -> dict[str, Callable[[Any], Any]]:
    """Return graphs that write to, or read, the file target, by the operation that does it."""
    from nasnet_cli.quiet import tf

    path, url, raw = str(target), f"file://{target}", tf.raw_ops

    def read_by_reader(images: Any) -> Any:
        files = raw.FIFOQueueV2(component_types=[tf.string])
        queued = raw.QueueEnqueueV2(handle=files, components=[path])
        with tf.control_dependencies([queued]):
            return raw.ReaderReadV2(reader_handle=raw.WholeFileReaderV2(), queue_handle=files).value

    def write_by_python(images: Any) -> Any:
        target.write_text("written")
        return images

    return {
        "PrintV2": lambda images: tf.print("written", output_stream=url),
        "SaveV2": lambda images: raw.SaveV2(
            prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[images]
        ),
        "Save": lambda images: raw.Save(filename=path, tensor_names=["a"], data=[images]),
        "WriteFile": lambda images: tf.io.write_file(path, "written"),
        "DebugIdentityV2": lambda images: raw.DebugIdentityV2(
            input=images, tfdbg_context_id="a", op_name="a", output_slot=0, debug_urls=[url]
        ),
        "PyFunc": lambda images: tf.numpy_function(write_by_python, [images], tf.float32),
        "EagerPyFunc": lambda images: tf.py_function(write_by_python, [images], tf.float32),
        "WholeFileReaderV2": read_by_reader,
        "MatchingFiles": lambda images: tf.io.matching_files(path),
        "ReadFile": lambda images: tf.io.read_file(path),
    }


WRITERS = ["PrintV2", "SaveV2", "Save", "WriteFile"]
READERS = ["WholeFileReaderV2", "MatchingFiles", "ReadFile"]
NAMES = [*WRITERS, "DebugIdentityV2", "PyFunc", "EagerPyFunc", *READERS]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def classify(image: Path, module: Path, *options: str) -> Result:
    return run_in_process("classify", image, "-m", module, *options)


def was_read(path: Path) -> bool:
    return path.stat().st_atime > 1


def forget_reading(path: Path) -> None:
    """Make was_read false until somebody reads: a time of reading before that of writing."""
    os.utime(path, (1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_unsafe_operation_is_refused_by_name(
    name: str, image: Path, tmp_path: Path, cache_folder: Path
) -> None:
    target = tmp_path / "target"
    module = write_module(tmp_path / "module", attacks(target)[name])
    assert not target.exists()  # building it has not run it
    if name in READERS:
        target.write_text(SECRET)
        forget_reading(target)
    for runtime in ("openvino", "tensorflow"):
        done = classify(image, module, "--runtime", runtime)
        assert done.exit_code == 1 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"Error: The model {module} has operations that could touch files")
        assert f"{name} in the function __inference" in line
        assert line.endswith("add --allow-unsafe-ops to run it anyway.")
    if name in READERS:
        assert not was_read(target)
    else:
        assert not list(tmp_path.glob("target*"))


@pytest.mark.parametrize("name", WRITERS)
def test_allow_unsafe_ops_runs_operations_that_write(
    name: str, image: Path, tmp_path: Path, cache_folder: Path
) -> None:
    module = write_module(tmp_path / "module", attacks(tmp_path / "target")[name])
    done = classify(image, module, "--runtime", "tensorflow", "--allow-unsafe-ops", "-q")
    assert done.exit_code == 0, done.stderr
    assert '"status": "ok"' in done.stdout
    assert list(tmp_path.glob("target*"))


def test_allow_unsafe_ops_runs_operations_that_read(
    image: Path, tmp_path: Path, cache_folder: Path
) -> None:
    target = tmp_path / "target"
    target.write_text(SECRET)
    forget_reading(target)
    target.read_text()
    if not was_read(target):
        pytest.skip("this file system doesn't keep the time of reading")
    forget_reading(target)
    module = write_module(tmp_path / "module", attacks(target)["ReadFile"], reads=True)
    done = classify(image, module, "--runtime", "tensorflow", "--allow-unsafe-ops", "--logits")
    assert done.exit_code == 0 and was_read(target)
    assert json.loads(done.stdout)["predictions"][0]["logit"] > len(SECRET)


def edited(folder: Path, change: Callable[[Any], None]) -> Path:
    """A module whose only graph is changed."""
    from nasnet_cli.models.savedmodel.schema import message

    binary = folder / "saved_model.pb"
    saved = message("SavedModel").FromString(binary.read_bytes())
    change(saved.meta_graphs[0])
    binary.write_bytes(saved.SerializeToString())
    return folder


def functions_of(folder: Path) -> list[Any]:
    from nasnet_cli.models.savedmodel.reader import read_saved_model

    return list(read_saved_model(folder).inference.proto.graph_def.library.function)


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """A module that calls a function which computes, where another, which writes, stands for it.

    Nothing names that other one; TensorFlow's optimizer calls it because it is for the processor.
    """
    from nasnet_cli.quiet import tf

    def of(name: str, act: Callable[[Any], Any]) -> Path:
        spec = [tf.TensorSpec((None, 8, 8, 3), tf.float32)]
        called = tf.function(act, input_signature=spec, autograph=False)
        return write_module(tmp_path / name, lambda images: called(images), reads=True)

    def helps(images: Any) -> Any:
        return tf.strings.as_string(tf.reduce_mean(images))

    def harms(images: Any) -> Any:
        tf.io.write_file(str(tmp_path / "target"), "written")
        return tf.strings.as_string(tf.reduce_max(images))

    (harm,) = (f for f in functions_of(of("other", harms)) if "harms" in f.signature.name)

    def change(graph: Any) -> None:
        functions = graph.graph_def.library.function
        functions.append(harm)
        for function in functions:
            for name, device in (("helps", b"GPU"), ("harms", b"CPU")):
                if name in function.signature.name:
                    function.attr["api_implements"].s = b"the same"
                    function.attr["api_preferred_device"].s = device

    return edited(of("module", helps), change)


def test_interchangeable_function_with_an_unsafe_operation_is_refused(
    swapped: Path, image: Path, tmp_path: Path, cache_folder: Path
) -> None:
    done = classify(image, swapped, "--runtime", "tensorflow")
    assert done.exit_code == 1 and done.stdout == ""
    assert "WriteFile in the function __inference_harms" in done.stderr
    assert not (tmp_path / "target").exists()
    done = classify(image, swapped, "--runtime", "tensorflow", "--allow-unsafe-ops", "-q")
    assert done.exit_code == 0 and (tmp_path / "target").exists()


def test_file_that_tensorflow_would_read_on_loading_is_not_read(
    image: Path, tmp_path: Path, cache_folder: Path
) -> None:
    """TensorFlow reads it to tell the shape of a tensor that nothing uses."""
    from nasnet_cli.quiet import tf
    from support import crafted

    target = tmp_path / "target"
    target.write_bytes(b"\5\0\0\0")
    path, zero = (tf.make_tensor_proto(v).SerializeToString() for v in (str(target), 0.0))
    constant = crafted.message("TensorProto").FromString
    unused = crafted.function(
        "unused",
        [],
        crafted.node("p", "Const", dtype={"type": 7}, value={"tensor": constant(path)}),
        crafted.node("z", "Const", dtype={"type": 1}, value={"tensor": constant(zero)}),
        crafted.node("r", "ReadFile", "p:output:0"),
        crafted.node("d", "DecodeRaw", "r:contents:0", out_type={"type": 3}),
        crafted.node("f", "Fill", "d:output:0", "z:output:0", T={"type": 1}),
    )
    module = write_module(tmp_path / "module", None)
    edited(module, lambda graph: graph.graph_def.library.function.append(unused))
    forget_reading(target)
    done = classify(image, module, "--runtime", "tensorflow")
    assert done.exit_code == 1 and "ReadFile in the function unused" in done.stderr
    assert not was_read(target)
    done = classify(image, module, "--runtime", "tensorflow", "--allow-unsafe-ops", "-q")
    assert done.exit_code == 0, done.stderr
    assert was_read(target)


def test_text_form_is_refused(image: Path, tmp_path: Path, cache_folder: Path) -> None:
    from google.protobuf import text_format

    from nasnet_cli.quiet import tf  # isort: skip
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # isort: skip

    target = tmp_path / "target"
    module = write_module(tmp_path / "module", attacks(target)["WriteFile"])
    binary = module / "saved_model.pb"
    saved = SavedModel.FromString(binary.read_bytes())
    (module / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    binary.unlink()
    assert tf.saved_model.contains_saved_model(str(module))  # TensorFlow itself would read it
    for options in ([], ["--runtime", "tensorflow"], ["--allow-unsafe-ops"]):
        done = classify(image, module, *options)
        assert done.exit_code == 1 and "saved_model.pbtxt" in done.stderr
    assert not target.exists()


def test_safe_model_runs(image: Path, tmp_path: Path, cache_folder: Path) -> None:
    module = write_module(tmp_path / "module", None)
    outputs = {
        classify(image, module, "--runtime", runtime, "-q").stdout
        for runtime in ("openvino", "tensorflow")
    }
    (output,) = outputs
    assert '"status": "ok"' in output


@pytest.fixture
def helpful(tmp_path: Path) -> Path:
    """A module that OpenVINO reads and whose attack lies beside what classifies."""
    from nasnet_cli.quiet import tf

    def helper() -> Any:
        tf.io.write_file(str(tmp_path / "target"), "written")
        return tf.constant(1.0)

    return write_module(tmp_path / "helpful", None, helper)


def test_allow_unsafe_ops_is_not_remembered(helpful: Path, cache_folder: Path) -> None:
    load_model(helpful, runtime="openvino", allow_unsafe_ops=True).runtime(("logits",))
    assert list((cache_folder / "compiled").iterdir())
    with pytest.raises(ModelError, match="WriteFile in the function __inference_helper"):
        load_model(helpful, runtime="openvino").runtime(("logits",))


def test_changed_model_is_scanned_again(helpful: Path, tmp_path: Path, cache_folder: Path) -> None:
    honest = write_module(tmp_path / "honest", None)
    load_model(honest).runtime(("logits",))
    (remembered,) = (cache_folder / "scanned").iterdir()
    (honest / "saved_model.pb").write_bytes((helpful / "saved_model.pb").read_bytes())
    with pytest.raises(ModelError, match="WriteFile"):
        load_model(honest).runtime(("logits",))
    assert list((cache_folder / "scanned").iterdir()) == [remembered]


def test_error_names_a_few_operations_and_counts_the_rest(
    tmp_path: Path, cache_folder: Path
) -> None:
    each = attacks(tmp_path / "target")

    def all_of_them(images: Any) -> None:
        for name in ("DebugIdentityV2", "PrintV2", *READERS[1:], *WRITERS[1:]):
            each[name](images)

    module = write_module(tmp_path / "module", all_of_them)
    with pytest.raises(ModelError) as error:
        load_model(module).runtime(("logits",))
    assert error.value.problem.count(" in the function ") == 5
    assert error.value.problem.endswith(" and 2 more.")
