"""Names and numbers as text that is safe where it goes: a UTF-8 file, JSON, a terminal.

File names on Linux are bytes. Python holds those that are not UTF-8 as lone surrogates, which no
encoder takes, and names that are UTF-8 may still hold escapes that a terminal would obey.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from json import JSONEncoder

_SURROGATE = re.compile("[\ud800-\udfff]")
# DEL, the C1 controls and the two Unicode line ends: JSON allows them raw, but terminals obey
# some of them and readers that split text into lines (Python's str.splitlines) cut rows there.
_RAW_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
# Zero-width joiners shape emoji and the scripts of Persia and India, never after an ASCII letter.
_JOINERS = "\u200c\u200d"


def _byte_or_code(match: re.Match[str]) -> str:
    code = ord(match[0])
    is_byte = 0xDC80 <= code <= 0xDCFF
    return f"\\x{code - 0xDC00:02x}" if is_byte else f"\\u{code:04x}"


def readable(text: str) -> str:
    r"""Return text that can be encoded: a byte that is not UTF-8 becomes the four characters \xNN.

    Unlike U+FFFD, this keeps two different names apart. All else stays as it is.
    """
    return _SURROGATE.sub(_byte_or_code, text)


def undecodable(path: str) -> bytes | None:
    """Return the bytes of a path that is not UTF-8; None for one that is."""
    if readable(path) == path:
        return None
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not a name on a disk: a lone half of a surrogate pair
        return path.encode("utf-8", "surrogatepass")


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return value as JSON with sorted keys, without lone surrogates and raw control characters.

    Raises ValueError for NaN and infinity, which JSON cannot express.
    """
    text = _encoder(indent).encode(value)
    # Both kinds of characters occur only within strings, where a backslash is written twice.
    text = _SURROGATE.sub(lambda match: "\\" + _byte_or_code(match), text)
    return _RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@functools.cache
def _encoder(indent: int | None) -> JSONEncoder:
    from json import JSONEncoder

    # json.dumps creates an encoder for each call, which takes longer than encoding a short string.
    return JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, indent=indent)


def decimal(value: float, *, missing: str) -> str:
    """Return value with six decimals, never with an exponent: 0.000012.

    Python formats this the same on every machine. -0 is 0.000000; NaN and infinity, which a broken
    model gives, are the text missing.
    """
    return f"{value:z.6f}" if math.isfinite(value) else missing


def rounded(value: float | None) -> float | None:
    """Return a number with the six decimals that text has; None for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, 6) + 0.0  # -0 becomes 0


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one: "2,000 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shortened(items: Sequence[object], most: int, separator: str = ", ") -> str:
    """Return a list as text, cut after so many items: "1, 2, 3 and 4 more"."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return separator.join(map(str, items[:most])) + more


def printable(text: str) -> str:
    r"""Return text that is safe on a terminal: one line, without escape sequences.

    Control characters (C0, DEL, C1), line ends, marks that change the direction of writing,
    invisible characters and bytes that are not UTF-8 become visible: \x1b, \u202e, \U000e0041.
    """
    if text.isascii() and text.isprintable():
        return text
    pairs = zip(" " + text, text, strict=False)
    return "".join(c if _is_shown(c, before) else _escape(c) for before, c in pairs)


def _is_shown(character: str, before: str) -> bool:
    if character.isprintable():
        return True
    from unicodedata import category

    # Common names have spaces that Python calls unprintable: macOS puts U+202F into those of
    # screenshots.
    if category(character) == "Zs":
        return True
    return character in _JOINERS and not before.isascii()


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
