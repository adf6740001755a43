"""Checkpoints are read without TensorFlow, and broken ones refused in words."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasnet_cli.errors import ModelError
from nasnet_cli.models.savedmodel import bundle, schema
from nasnet_cli.models.savedmodel.bundle import read_bundle

TINY = Path(__file__).parent / "data" / "tf1_tiny" / "variables"
INDEX = (TINY / "variables.index").read_bytes()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The prefix of a copy of the tiny module's variables."""
    shutil.copytree(TINY, tmp_path / "variables")
    return tmp_path / "variables" / "variables"


def test_names_shapes_and_positions_are_read() -> None:
    read = read_bundle(TINY / "variables")
    read.check_complete()
    assert {name: entry.shape for name, entry in read.tensors.items()} == {
        "FC/biases": (5,),
        "FC/weights": (4, 5),
        "bn/beta": (4,),
        "bn/gamma": (4,),
        "bn/moving_mean": (4,),
        "bn/moving_variance": (4,),
        "conv/weights": (3, 3, 3, 4),
    }
    assert sum(entry.size for entry in read.tensors.values()) == 4 * 149


def test_every_dtype_is_read_as_tensorflow_wrote_it(tmp_path: Path) -> None:
    from nasnet_cli.quiet import tf

    v1 = tf.compat.v1
    values = {
        "bool": np.array([True, False]),
        "deep/float16": np.arange(6, dtype=np.float16).reshape(2, 3),
        "float32": np.linspace(-1, 1, 7, dtype=np.float32),
        "int64": np.array([[-(2**40)], [7]]),
        "scalar": np.array(3.5),
        "uint8": np.arange(256, dtype=np.uint8),
        "none": np.zeros((0, 4), np.float32),
    }
    with v1.Graph().as_default(), v1.Session() as session:
        for name, value in values.items():
            v1.get_variable(name, initializer=tf.constant(value), use_resource=True)
        v1.get_variable("bfloat16", initializer=tf.constant([1.5, -2.0], tf.bfloat16))
        v1.get_variable("string", initializer=tf.constant("text"))
        ones = v1.ones_initializer()
        partitioner = v1.fixed_size_partitioner(2)
        v1.get_variable("sliced", (4, 2), initializer=ones, partitioner=partitioner)
        session.run(v1.global_variables_initializer())
        v1.train.Saver(sharded=True).save(session, str(tmp_path / "model.ckpt"))
    read = read_bundle(tmp_path / "model.ckpt")
    read.check_complete()
    for name, value in values.items():
        found = read.read(name)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(read.read("bfloat16"), np.array([1.5, -2.0], np.float32))
    with pytest.raises(ModelError, match=r"'sliced'.* is stored in slices"):
        read.read("sliced")
    with pytest.raises(ModelError, match=r"'string'.* holds string"):
        read.read("string")
    with pytest.raises(ModelError, match="has no tensor 'other'"):
        read.read("other")


def test_missing_and_short_data_files_are_refused(checkpoint: Path) -> None:
    data = checkpoint.with_name("variables.data-00000-of-00001")
    read = read_bundle(checkpoint)
    content = data.read_bytes()
    data.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"data-00000-of-00001 is cut off: it has 595 bytes"):
        read.check_complete()
    with pytest.raises(ModelError, match="cut off"):
        read.read("conv/weights")
    data.unlink()
    with pytest.raises(ModelError, match="data-00000-of-00001 is missing"):
        read.check_complete()
    with pytest.raises(ModelError, match="Cannot read"):
        read.read("conv/weights")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (INDEX[:30], "it is cut off"),
        (INDEX[:-1], "it is not an index, or it is cut off"),
        (INDEX[:-1] + b"\0", "it is not an index"),
        (INDEX[:4] + b"X" + INDEX[5:], "a checksum is wrong"),
    ],
)
def test_damaged_index_is_refused(checkpoint: Path, content: bytes, message: str) -> None:
    checkpoint.with_name("variables.index").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_bundle(checkpoint)


def test_missing_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"variables\.index is missing"):
        read_bundle(tmp_path / "variables")


def block(rows: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A LevelDB block with keys in full, and its trailer."""
    content = b""
    for key, value in rows:
        content += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    content += struct.pack("<II", 0, 1)
    summed = content + bytes([kind])
    return summed + struct.pack("<I", bundle._masked(bundle._crc32c(summed)))


def varint(value: int) -> bytes:
    result = b""
    while value >= 0x80:
        result += bytes([value & 0x7F | 0x80])
        value >>= 7
    return result + bytes([value])


def table(blocks: list[bytes], repeat: int = 1) -> bytes:
    """A table whose index names each block, repeat times over."""
    content = b""
    handles = []
    for part in blocks:
        handles.append(varint(len(content)) + varint(len(part) - 5))
        content += part
    index = block([(bytes([i]), handle) for i, handle in enumerate(handles * repeat)])
    place = varint(len(content)) + varint(len(index) - 5)
    footer = (varint(0) + varint(0) + place).ljust(40, b"\0")
    return content + index + footer + struct.pack("<Q", bundle._MAGIC)


def header(**fields: int) -> tuple[bytes, bytes]:
    message = schema.message("BundleHeaderProto")(**{"num_shards": 1, **fields})
    return b"", message.SerializeToString()


def entry(name: str = "v", sizes: tuple[int, ...] = (2,), **fields: int) -> tuple[bytes, bytes]:
    message = schema.message("BundleEntryProto")(**{"dtype": 1, "size": 8, **fields})
    for size in sizes:
        message.shape.dim.add(size=size)
    return name.encode(), message.SerializeToString()


def test_tables_of_these_tests_are_valid(tmp_path: Path) -> None:
    (tmp_path / "v.index").write_bytes(table([block([header(), entry()])]))
    assert read_bundle(tmp_path / "v").tensors["v"].shape == (2,)


def test_crc32c_has_the_standard_check_value() -> None:
    assert bundle._crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table([block([header(endianness=1)])]), "big-endian"),
        (table([block([header(num_shards=0)])]), "claims 0 data files"),
        (table([block([header(num_shards=10**9)])]), "claims 1000000000 data files"),
        (table([block([entry()])]), "no header"),
        (table([block([])]), "no header"),
        (table([]), "no header"),
        (table([block([header(), entry(shard_id=1)])]), "outside the data"),
        (table([block([header(), entry(offset=-1)])]), "outside the data"),
        (table([block([header(), entry(size=-8)])]), "outside the data"),
        (table([block([header(), entry(sizes=(-1,))])]), "invalid shape"),
        (table([block([header(), entry(sizes=(2**62, 2**62))])]), "does not match its shape"),
        (table([block([header(), entry(sizes=(3,))])]), "does not match its shape"),
        (table([block([header(), entry("b"), entry("a")])]), "not in order"),
        (table([block([header(), entry("a"), entry("a")])]), "not in order"),
        (table([block([header()])], repeat=2), "blocks overlap"),
        (table([block([header()], kind=1)]), "compressed"),
        (table([block([header(), entry("n" * 5000)])]), "exceeds its block"),
    ],
)
def test_hostile_index_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.index").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_bundle(tmp_path / "v")


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_index_raises_only_model_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    # Without checksums, or almost every change would end there.
    monkeypatch.setattr(bundle, "_MAX_CHECKSUMMED", 0)
    content = bytearray(INDEX)
    for at in data.draw(st.lists(st.integers(0, len(content) - 9), min_size=1, max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "v.index").write_bytes(content)
    shutil.copy(TINY / "variables.data-00000-of-00001", tmp_path / "v.data-00000-of-00001")
    try:
        read = read_bundle(tmp_path / "v")
        read.check_complete()
        for name in read.tensors:
            read.read(name)
    except ModelError:
        pass


@given(st.binary(max_size=300))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_raise_only_model_errors(tmp_path: Path, content: bytes) -> None:
    footer = b"\0\0\0".ljust(40, b"\1") + struct.pack("<Q", bundle._MAGIC)
    (tmp_path / "v.index").write_bytes(content + footer)
    with pytest.raises(ModelError):
        read_bundle(tmp_path / "v")
