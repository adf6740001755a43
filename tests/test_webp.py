"""The size of a WebP decides where it is decoded."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from nasnet_cli.images import webp
from nasnet_cli.images.isolated import DecoderPool
from nasnet_cli.images.load import load
from nasnet_cli.images.preprocess import Preprocessing
from nasnet_cli.images.source import Source

KINDS = [{}, {"lossless": True}, {"icc_profile": b"x" * 128}]


@pytest.mark.parametrize("options", KINDS, ids=["VP8", "VP8L", "VP8X"])
@pytest.mark.parametrize("size", [(5, 3), (3, 5), (4, 4)])
def test_the_size_is_in_the_first_bytes(
    options: dict[str, object], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    Image.new("RGB", size, "red").save(stream, "WEBP", **options)
    head = stream.getvalue()[:64]
    pixels = size[0] * size[1]
    for limit, expected in ((pixels, False), (pixels - 1, True)):
        monkeypatch.setattr(webp, "LARGE_PIXELS", limit)
        assert webp.is_large(head) is expected
    assert webp.is_large(head[:25]) and webp.is_large(head[:12] + b"????" + head[16:])


@pytest.mark.linux
def test_a_large_one_has_the_same_pixels_from_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(stream, "WEBP")
    source, settings = Source("a", member=lambda _: stream.getvalue()), Preprocessing((32, 32))
    with DecoderPool() as decoders:
        here = load(source, settings, decoders=decoders)
        assert not decoders._idle
        monkeypatch.setattr(webp, "LARGE_PIXELS", 100)
        there = load(source, settings, decoders=decoders)
        assert decoders._idle
    assert (here == there).all()
