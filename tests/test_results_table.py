"""The table for people: aligned, readable, and safe on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nasnet_cli.results.records import Classified, Everyday, Failure, Prediction
from nasnet_cli.results.table import TableWriter
from nasnet_cli.results.text import printable


def found(*pairs: tuple[str, float], logit: float | None = None) -> tuple[Prediction, ...]:
    return tuple(Prediction(n, n, "", label, p, logit) for n, (label, p) in enumerate(pairs, 1))


CAT = Classified("photos/cat.jpg", found(("tiger cat", 0.61), ("tabby", 0.182)))
BAD = Classified("photos/bad.jpg", None, Failure("truncated", "The file ends early."))


def shown(
    *rows: Classified, width: int = 80, logits: bool = False, everyday: bool = False
) -> list[str]:
    stream = io.StringIO()
    writer = TableWriter(stream, width=width, logits=logits, everyday=everyday)
    for row in rows:
        writer.write(row)
    writer.finish({})
    return stream.getvalue().split("\n")[:-1]


def on_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> bytes:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as reader, os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        writer = TableWriter(terminal, width=80)
        for row in (CAT, BAD):
            writer.write(row)
        terminal.flush()
        return until(reader.fileno(), b"truncated")


def until(descriptor: int, end: bytes) -> bytes:
    """The output of a terminal up to the line with end: one read may return a part of it."""
    text = b""
    while end not in text or not text.endswith(b"\n"):
        text += os.read(descriptor, 100_000)
    return text


def test_an_image_has_a_line_per_label() -> None:
    header, rule, first, second = shown(CAT)
    assert header.split() == ["Image", "Label", "Probability"]
    assert rule == "─" * 80
    assert re.fullmatch(r"photos/cat.jpg +tiger cat +█+[▏▎▍▌▋▊▉]? +61\.0 %", first)
    assert re.fullmatch(r" +tabby +█+[▏▎▍▌▋▊▉]? +18\.2 %", second)
    assert {len(line) for line in (header, rule, first, second)} == {80}


def test_everyday_label_has_a_column_before_the_labels() -> None:
    sure = Everyday("n02121620", "cat", 0.792)
    cat = Classified(CAT.path, CAT.predictions, sure=sure)
    header, rule, first, second, unsure, *_ = shown(cat, CAT, everyday=True)
    assert header.split() == ["Image", "Sure", "of", "Label", "Probability"]
    assert re.fullmatch(r"photos/cat.jpg +cat 79\.2 % +tiger cat +█+[▏▎▍▌▋▊▉]? +61\.0 %", first)
    assert re.fullmatch(r" +tabby +█*[▏▎▍▌▋▊▉]? +18\.2 %", second)
    assert re.fullmatch(r"photos/cat.jpg +not sure +tiger cat .*", unsure)
    assert second.index("tabby") == first.index("tiger cat") == unsure.index("tiger cat")
    assert {len(line) for line in (header, rule, first, second, unsure)} == {80}
    (*_, line) = shown(Classified("a.jpg", (), sure=sure), everyday=True)
    assert re.fullmatch(r"a.jpg +cat 79\.2 % +nothing above the threshold", line)


@pytest.mark.parametrize("width", [40, 45, 59, 60, 80, 120, 200])
@pytest.mark.parametrize("logits", [False, True])
def test_everyday_label_fits_any_width(width: int, logits: bool) -> None:
    long = Everyday("n04371774", "swing " * 30, 0.5)
    rows = [Classified(CAT.path, CAT.predictions, sure=sure) for sure in (long, None)]
    lines = shown(*rows, width=width, logits=logits, everyday=True)
    assert {cell_len(line) for line in lines} == {width}
    assert any("not sure" in line for line in lines) == (width >= 50 or not logits)
    assert max(map(cell_len, shown(BAD, width=width, logits=logits, everyday=True))) <= width


def test_a_narrow_terminal_has_paths_above_their_labels() -> None:
    cat = Classified(CAT.path, CAT.predictions, sure=Everyday("n02121620", "cat", 0.792))
    image, labels, rule, path, first, second, bad, why = shown(cat, BAD, width=40, everyday=True)
    assert (image.strip(), labels.split()) == ("Image", ["Sure", "of", "Label", "Probability"])
    assert rule == "─" * 40 and path.strip() == "photos/cat.jpg"
    assert re.fullmatch(r"  cat +tiger cat +█[▏▎▍▌▋▊▉]? +61\.0 %", first)
    assert re.fullmatch(r" +tabby +[▏▎▍▌▋▊▉] +18\.2 %", second)
    assert (bad.strip(), why) == ("photos/bad.jpg", "  truncated: The file ends early.")


def test_classes_of_one_name_are_told_apart() -> None:
    def row(wnid: str) -> Classified:
        predictions = (Prediction(1, 1, wnid, "crane", 0.9),)
        return Classified("a.jpg", predictions, sure=Everyday(wnid, "crane", 0.9))

    *_, bird, machine = shown(row("n02012849"), row("n03126707"), width=120, everyday=True)
    assert bird.count("crane (bird)") == 2
    assert machine.count("crane (machine)") == 2


def test_the_header_comes_once() -> None:
    assert sum(line.startswith("Image") for line in shown(CAT, CAT, BAD)) == 1
    assert shown() == []


def test_a_terminal_shows_the_header_on_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "12")  # as a shell says it
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as reader, os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        writer = TableWriter(terminal)
        for _ in range(12):
            writer.write(CAT)
        writer.write(BAD)
        terminal.flush()
        lines = until(reader.fileno(), b"truncated").splitlines()
    headers = [number for number, line in enumerate(lines) if b"Image" in line]
    assert headers == [0, 10, 20]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_rows_are_summed_up(width: int) -> None:
    dog = Classified("a.jpg", CAT.predictions, sure=Everyday("n02084071", "dog", 0.9))
    many = [Classified("b", (), sure=Everyday("", f"class {n}", 0.9)) for n in range(12)]
    lines = shown(*[dog] * 1500, *[CAT] * 500, BAD, *many, width=width, everyday=True)
    start = len(lines) - lines[::-1].index(next(x for x in reversed(lines) if "Images" in x)) - 1
    sums = lines[start:]
    assert sums[0].split() == ["Sure", "of", "Images"] and set(sums[1]) == {"─"}
    first, second, third = (re.sub(r"[^\w, ]", "", line).split() for line in sums[2:5])
    assert (first, second) == (["dog", "1,500"], ["not", "sure", "500"]) and third[-1] == "1"
    assert sums[-2].split() == ["5", "others", "5"] and sums[-1] == ""
    assert {len(line) for line in sums[:-1]} == {len(sums[0])} and len(sums[0]) <= width


def test_labels_are_summed_up_where_none_is_everyday() -> None:
    lines = shown(*[CAT] * 20, Classified("a", ()))
    assert [line.split()[0] for line in lines[-5:-1]] == ["Label", "─" * 72, "tiger", "no"]
    assert not any("Images" in line for line in shown(*[CAT] * 20))


def test_rows_are_shown_as_they_come() -> None:
    stream = io.StringIO()
    writer = TableWriter(stream, width=80)
    writer.write(CAT)
    assert "tiger cat" in stream.getvalue()
    assert "bad.jpg" not in stream.getvalue()


def test_an_error_has_its_kind_and_message() -> None:
    assert re.fullmatch(r"photos/bad.jpg +truncated: The file ends early\.", shown(BAD)[-1])


def test_a_long_message_is_wrapped_beside_the_path_and_cut() -> None:
    row = Classified("a.jpg", None, Failure("archive", "many words " * 200))
    lines = shown(row)[2:]
    assert len(lines) == 4
    assert lines[-1].endswith("…")
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 20) for line in lines[1:])


def test_an_image_without_labels_says_so() -> None:
    assert "nothing above the threshold" in shown(Classified("a.jpg", ()))[-1]


def test_bars_are_as_long_as_the_probability() -> None:
    def bar(p: float) -> str:
        return re.sub(r"[^█▏▎▍▌▋▊▉]", "", shown(Classified("a", found(("x", p))))[-1])

    full = len(bar(1.0))
    assert set(bar(1.0)) == {"█"}
    assert len(bar(0.5)) == pytest.approx(full / 2, abs=1)
    assert bar(1e-9) == "▏"
    assert bar(0.0) == bar(float("nan")) == ""
    assert len(bar(1.5)) == full


def test_small_and_invalid_probabilities_differ() -> None:
    lines = shown(Classified("a", found(("x", 1e-5), ("y", 0.0), ("z", float("nan")))))
    assert [re.split("  +", line)[-1] for line in lines[2:]] == ["< 0.1 %", "0.0 %", "?"]


def test_logits_have_a_column() -> None:
    header, _, line, *_ = shown(Classified("a", found(("x", 0.5), logit=-1.25)), logits=True)
    assert header.endswith("Logit")
    assert line.endswith("  -1.250")
    assert len(line) == 80


def test_a_long_path_is_cut_in_the_middle_and_keeps_the_file_name() -> None:
    path = "photos/2024/summer/in the mountains/and so on/IMG_2024.jpg"
    assert re.match(r"photos/2024\S*…/IMG_2024\.jpg ", shown(Classified(path, ()))[-1])
    line = shown(Classified("folder/" + "long" * 30 + ".jpg", ()))[-1]
    assert re.match(r"(long)+\w*…\w*\.jpg ", line)


@pytest.mark.parametrize("width", [1, 40, 57, 80, 120, 400])
@pytest.mark.parametrize("logits", [False, True])
def test_lines_fit_the_terminal(width: int, logits: bool) -> None:
    rows = [
        Classified("写真/とても長いファイル名の写真-富士山.jpg", found(("火山, volcano" * 9, 1.0))),
        Classified("🌋" * 99, found(("🌋" * 99, 0.5), logit=1.0)),
        Classified("e\u0301" * 99, None, Failure("archive", "火山" * 99)),
    ]
    lines = shown(*rows, width=width, logits=logits)
    assert max(map(cell_len, lines)) <= min(200, max(40, width))
    ends = {cell_len(line) for line in lines if line.endswith("%")}
    assert len(ends) <= 1


def test_markup_and_emoji_codes_in_names_are_text() -> None:
    row = Classified("[bold]a[/bold].jpg", found(("[red]:smile:", 0.5)))
    assert "[bold]a[/bold].jpg" in shown(row)[-1]
    assert "[red]:smile:" in shown(row)[-1]


names = st.one_of(
    st.text(st.characters(), max_size=30),
    st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text("\x1b[]31m\x07\n\r\t\x9b\u202e\u2066\u200b\u200d\u200f\ufeff\x7f\udcff/a", max_size=30),
)


def is_harmless(text: str) -> bool:
    allowed = "\u200c\u200d"
    return all(
        unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or c in allowed for c in text
    )


@given(names, names, names, st.integers(40, 130))
def test_no_name_reaches_the_terminal_with_control_characters(
    path: str, label: str, message: str, width: int
) -> None:
    rows = [
        Classified(path, found((label, 0.5))),
        Classified(path, None, Failure("archive", message)),
    ]
    for line in shown(*rows, width=width):
        assert is_harmless(line)
        line.encode()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain café 火山 🌋", "plain café 火山 🌋"),
        ("\x1b[31m\x07\x7f\x9b\n\t", r"\x1b[31m\x07\x7f\x9b\x0a\x09"),
        ("a\u202egpj.exe\u2066\u200b\ufeff", r"a\u202egpj.exe\u2066\u200b\ufeff"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        ("9.41\u202fAM\u3000", "9.41\u202fAM\u3000"),
        ("\u0645\u06cc\u200c\u062e 👩\u200d👧", "\u0645\u06cc\u200c\u062e 👩\u200d👧"),
        ("a\u200db\u200cc", r"a\u200db\u200cc"),
    ],
)
def test_control_characters_become_visible(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch)
    assert b"\x1b[32m" in text
    assert re.search(rb"\x1b\[31mphotos/bad.jpg +truncated", text)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, NO_COLOR="1")
    assert b"tiger cat" in text
    assert not re.search(rb"\x1b\[[\d;]*(3\d|4\d|9\d)", text)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_is_not_unicode_gets_plain_signs(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    writer = TableWriter(stream, width=60)
    writer.write(Classified("火山" + "x" * 99, found(("火山", 0.5))))
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert r"\u706b\u5c71" in text
    assert "###" in text
    assert "---" in text
