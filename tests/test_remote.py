"""Images in object stores and on web servers: real servers, on the loopback address."""

from __future__ import annotations

import os
from io import BytesIO

import pytest
from PIL import Image

from nasnet_cli.errors import InputError
from nasnet_cli.images import remote, web
from nasnet_cli.images.listing import list_sources
from nasnet_cli.images.source import MAX_BYTES, SkipCounter, Source
from nasnet_cli.images.urls import shown
from nasnet_cli.jobs.inputs import source_key
from nasnet_cli.jobs.shards.entries import entry_lines, entry_sources
from support.hub_server import Answer, hub_server
from support.object_store import object_store

pytest.importorskip("s3fs", reason="the extra `remote` is not installed")
pytest.importorskip("moto", reason="moto, a server of S3's protocol, is not installed")


def png(shade):
    stream = BytesIO()
    Image.new("RGB", (40, 40), (shade, 0, 255 - shade)).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {
    "photos/b.png": png(1),
    "photos/a/z.png": png(2),
    "photos/a.png": png(3),
    "photos/ä::1.png": png(4),
    "photos/bare": png(5),
    "photos/empty.png": b"",
}
OTHERS = {
    "photos/": b"",
    "photos/notes": b"no image",
    "photos/notes.txt": b"no image",
    "photos/.hidden/h.png": png(6),
    "photos/archive.zip": b"PK",
    "photosynthesis.png": png(7),
}


@pytest.fixture(scope="module")
def store():
    with object_store() as found:
        found.put("bucket", {**IMAGES, **OTHERS})
        yield found


@pytest.fixture
def s3(store, monkeypatch):
    """The store, in the environment of this process."""
    import s3fs

    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def server():
    with hub_server() as server:
        yield server


def found(*urls, **options):
    skips = SkipCounter()
    return list(list_sources(urls, skips=skips, **options)), skips


def failure(source, max_bytes=1 << 20):
    with pytest.raises(InputError) as raised:
        source.read(max_bytes)
    return raised.value


def test_images_below_a_prefix_are_in_the_order_of_their_keys(s3):
    sources, skips = found("s3://bucket/photos")
    keys = [source.path.removeprefix("s3://bucket/") for source in sources]
    assert keys == sorted(IMAGES, key=str.encode)
    assert [source.read() for source in sources] == [IMAGES[key] for key in keys]
    assert skips.count == 4
    assert [s.path for s in found("s3://bucket/photos/")[0]] == [s.path for s in sources]


def test_a_whole_bucket_and_a_single_object(s3):
    assert len(found("s3://bucket")[0]) == len(IMAGES) + 1
    ((one,), _) = found("s3://bucket/photos/notes.txt")  # named outright, it is tried
    assert one.path == "s3://bucket/photos/notes.txt" and one.read() == b"no image"


def test_without_recursion_only_the_prefix_itself_is_listed(s3):
    sources, _ = found("s3://bucket/photos", recursive=False)
    assert "s3://bucket/photos/a/z.png" not in [source.path for source in sources]
    assert len(sources) == len(IMAGES) - 1


def test_a_listing_of_many_pages_is_complete(s3, monkeypatch):
    monkeypatch.setattr(remote, "_PAGE_OBJECTS", 2)
    assert len(found("s3://bucket/photos")[0]) == len(IMAGES)


def test_a_missing_object_has_a_row(s3):
    sources, _ = found("s3://bucket/nothing.png", "s3://nobody/x.png", "s3://bucket/photos/a.png")
    assert [failure(source).kind for source in sources[:2]] == ["not_found", "not_found"]
    assert sources[2].read() == IMAGES["photos/a.png"]


def test_an_object_over_the_limit_is_too_large(s3):
    ((source,), _) = found("s3://bucket/photos/a.png")
    assert failure(source, max_bytes=50).kind == "too_large"
    assert source.read(len(IMAGES["photos/a.png"])) == IMAGES["photos/a.png"]


def test_a_manifest_keeps_the_versions_of_objects(s3):
    s3.put("changing", {"a.png": png(1), "b.png": png(2)})
    before = list(entry_lines(found("s3://changing")[0]))
    again = list(entry_lines(found("s3://changing")[0]))
    s3.put("changing", {"b.png": png(3)})
    after = list(entry_lines(found("s3://changing")[0]))
    assert before == again
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]
    sources = list(entry_sources(after, "/"))
    assert [source.read() for source in sources] == [png(1), png(3)]
    assert list(entry_lines(sources)) == after


def test_the_resume_key_of_an_object_changes_with_it(s3):
    def keys():
        return [source_key(source, "stat", MAX_BYTES) for source in found("s3://resumed")[0]]

    s3.put("resumed", {"a.png": png(1), "b.png": png(2)})
    before = keys()
    assert keys() == before
    s3.put("resumed", {"b.png": png(3)})
    assert [a == b for a, b in zip(before, keys(), strict=True)] == [True, False]


def test_a_file_on_the_web_is_read_with_one_request(server):
    url = server.put("/a/cat.png", Answer(png(9)))
    ((source,), _) = found(url)
    assert source == Source(url, member=source.member, url=url) and not server.requests
    assert source.read() == png(9)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(status=404), "not_found", "no such file"),
        (Answer(status=403), "unreadable", "answers 403"),
        (Answer(failures=9), "network", "answers 503"),
        (Answer(status=410), "not_found", "no such file"),
        (Answer(status=599), "network", "answers 599"),
        (Answer(b"x" * 5000, cuts=(2000,) * 9), "network", "connection was cut"),
        (Answer(silent=True), "network", "doesn't answer"),
        (Answer(b"x" * 5000, has_length=False), "too_large", "more than 4,000 bytes"),
    ],
)
def test_an_error_of_a_server_has_a_row(server, monkeypatch, answer, kind, words):
    if answer.silent:  # the others may take their time
        monkeypatch.setattr(web, "_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(web, "_PAUSE_SECONDS", 0.01)
    ((source,), _) = found(server.put("/x.png", answer))
    error = failure(source, 4000 if kind == "too_large" else 1 << 20)
    assert error.kind == kind and words in error.message


def test_a_request_that_failed_is_tried_again(server, monkeypatch):
    monkeypatch.setattr(web, "_PAUSE_SECONDS", 0.01)
    for answer in (Answer(png(1), failures=2), Answer(png(1), cuts=(20, 30))):
        ((source,), _) = found(server.put("/x.png", answer))
        assert source.read() == png(1)


AS_GIVEN = [
    "/a%27b%2Fc%40d.png?Expires=9&Signature=a%2Bb'(c)+d%3D~*!",
    "/a//b/../c'd@e.png?x=[1]|{2}^%7E",
    "/%E4.png?",
]


@pytest.mark.parametrize("target", AS_GIVEN)
def test_a_url_is_sent_as_given(server, target):
    """A signature is of these very characters."""
    server.put(target.partition("?")[0], Answer(png(1)))
    server.put("/moved.png", Answer(status=302, location=server.url + target))
    capitals = server.url.replace("http", "HTTP")
    sources, _ = found(server.url + target, capitals + target, server.url + "/moved.png")
    assert [source.read() for source in sources] == [png(1)] * 3
    sent = [target.removesuffix("?") for target, _ in server.requests]
    expected = target.removesuffix("?")
    assert sent == [expected, expected, "/moved.png", expected]


def test_what_no_request_can_hold_is_encoded(server):
    server.put("/%C3%A4%20b.png", Answer(png(1)))
    ((source,), _) = found(server.url + "/ä b.png")
    assert source.read() == png(1)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://example.org/x.png?sig=abc", "http://example.org/x.png?sig=…, which nasnet does"),
        ("ftp://127.0.0.1/x.png", "ftp://127.0.0.1/x.png, which nasnet does not follow"),
        ("file:///etc/passwd", "does not follow"),
        ("/loop.png", "form a loop"),
    ],
)
def test_redirects_that_are_not_followed(server, location, words):
    server.put("/loop.png", Answer(status=301, location=location))
    ((source,), _) = found(server.url + "/loop.png")
    error = failure(source)
    assert error.kind == "unreadable" and words in error.message


def test_a_server_may_ask_to_wait(server, monkeypatch):
    waits = []
    monkeypatch.setattr(web, "sleep", waits.append)
    busy = Answer(png(1), failing=429, failures=1, retry_after="7")
    ((source,), _) = found(server.put("/x.png", busy))
    assert source.read() == png(1)
    assert waits == [7]
    past = Answer(png(1), failures=1, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
    ((source,), _) = found(server.put("/y.png", past))
    assert source.read() == png(1)
    assert waits == [7, web._PAUSE_SECONDS]


def test_a_server_that_asks_to_wait_for_long_is_given_up(server):
    busy = Answer(png(1), failures=1, retry_after="3600")
    ((source,), _) = found(server.put("/x.png", busy))
    error = failure(source)
    assert error.kind == "network" and "answers 503 and asks to wait 3,600 s" in error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@h.org/a.png", "https://h.org/a.png"),
        ("https://u:p@ss@h.org:8/a@b.png", "https://h.org:8/a@b.png"),
        ("https://h/a?X-Amz-Date=1&v=2&X-Amz-Signature=ab", "https://h/a?X-Amz-Date=…&v=2&X-Amz-Signature=…"),
        ("https://h/a?sv=1;SIG=a%3D;b=sig", "https://h/a?sv=1;SIG=…;b=sig"),
        ("https://h/a?x%2Dgoog-signature=1#access_token=2", "https://h/a?x%2Dgoog-signature=…#access_token=…"),
        ("https://h/a?signatures=1&id=token", "https://h/a?signatures=1&id=token"),
        ("HTTP://h/sig=1/a", "HTTP://h/sig=1/a"),
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png"),
    ],
)  # fmt: skip
def test_secrets_of_a_url_are_not_shown(url, expected):
    assert shown(url) == expected


def test_secrets_are_in_no_file_and_no_message(nasnet, server, tiny_module, tmp_path):
    server.put("/a.png", Answer(png(1)))
    place = server.url.replace("//", "//me:hidden1@")
    urls = [f"{place}/{name}.png?v=2&X-Amz-Signature=hidden2" for name in ("a", "none")]
    out = tmp_path / "out.json"
    done = nasnet("classify", *urls, "-m", tiny_module, "-o", out, "-v", expect=3)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hidden" not in written + done.stdout_bytes + done.stderr_bytes
    assert f"{server.url}/none.png?v=2&X-Amz-Signature=…".encode() in written
    assert ("/a.png?v=2&X-Amz-Signature=hidden2", None) in server.requests
    nothing = nasnet("classify", "s4://me:hidden1@b/x?sig=hidden2", "-m", tiny_module, expect=3)
    assert "hidden" not in nothing.stdout + nothing.stderr


def test_a_url_that_was_signed_again_is_the_same_input(server):
    urls = [f"{server.url}/a.png?Signature={value}&id={n}" for n in "12" for value in "xy"]
    keys = [source_key(source, "stat", MAX_BYTES) for source in found(*urls)[0]]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_manifest_has_the_url_that_is_to_be_sent(server):
    url = server.put("/a.png", Answer(png(1))) + "?sig=abc"
    ((source,), _) = found(url)
    (again,) = entry_sources(list(entry_lines([source])), "/")
    assert again.path == source.path == url.replace("abc", "…")
    assert again.read() == png(1)
    assert server.requests[0][0] == "/a.png?sig=abc"


def test_a_server_that_does_not_listen_has_a_row():
    ((source,), _) = found("http://127.0.0.1:9/x.png")
    assert failure(source).kind == "network"


def test_a_store_that_does_not_answer_is_an_error_of_the_network(s3, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    ((source,), _) = found("s3://bucket/photos/")
    assert failure(source).kind == "network"


def test_an_unknown_scheme_has_a_row():
    ((source,), _) = found("gopher://x/y.png")
    assert failure(source).kind == "unsupported"
    assert "s3" in failure(source).message


def test_classify_reads_urls_like_files(nasnet, store, server, tiny_module, tmp_path):
    (tmp_path / "local.png").write_bytes(png(1))
    url = server.put("/b.png", Answer(png(1)))
    inputs = ("s3://bucket/photos", url, server.url + "/none.png", tmp_path / "local.png")
    done = nasnet("classify", *inputs, "-m", tiny_module, **store.variables)
    assert done.exit_code == 3, done.stderr
    rows = done.rows
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == len(IMAGES) + 3
    same = by_path["s3://bucket/photos/b.png"], by_path[url], by_path[str(tmp_path / "local.png")]
    assert len({str(row["predictions"]) for row in same}) == 1
    assert by_path[server.url + "/none.png"]["error"]["kind"] == "not_found"
    assert by_path["s3://bucket/photos/empty.png"]["status"] == "error"
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_without_the_extra_an_error_says_what_to_install(nasnet_process, tiny_module, tmp_path):
    (tmp_path / "s3fs.py").write_text("raise ImportError('s3fs')")
    done = nasnet_process(
        "classify", "s3://bucket/x", "-m", tiny_module, PYTHONPATH=_with(tmp_path)
    )
    assert done.exit_code == 1
    assert "pip install 'nasnet-cli[remote]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def _with(folder):
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
