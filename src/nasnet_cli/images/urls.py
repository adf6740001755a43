"""URLs as they are sent, and as they are shown: without passwords and signatures."""

from __future__ import annotations

import re
import string
from urllib.parse import quote, unquote

# Parameters whose values give access, in lower case; presigned URLs have most of them.
_SECRETS = frozenset((
    "signature", "sig", "token", "access_token", "id_token", "refresh_token", "auth_token",
    "security-token", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id", "policy",
    "api_key", "apikey", "auth", "authorization", "credential", "hmac", "jwt", "password", "secret",
    "client_secret",
))  # fmt: skip
_SECRET_STARTS = ("x-amz-", "x-goog-", "x-oss-")

_PARTS = re.compile(r"([^:/?#]+)://([^/?#]*)(.*)", re.DOTALL)
_PARAMETER = re.compile(r"([?&;#])([^=&;#]+)=([^&;#]*)")


def scheme_of(url: str) -> str:
    """Return a URL's scheme in lower case: https."""
    return url.partition("://")[0].lower()


def shown(url: str) -> str:
    """Return a URL as results, messages and files have it.

    The user's name and password are left out, and the values of secret parameters are "…". All
    else stays as given, so that two objects stay apart.
    """
    match = _PARTS.fullmatch(url)
    if match is None:
        return url
    scheme, place, rest = match.groups()
    return f"{scheme}://{place.rpartition('@')[2]}{_PARAMETER.sub(_hidden, rest)}"


def _hidden(match: re.Match[str]) -> str:
    start, name, _ = match.groups()
    plain = unquote(name).strip().lower()
    is_secret = plain in _SECRETS or plain.startswith(_SECRET_STARTS)
    return f"{start}{name}=…" if is_secret else match[0]


def sendable(url: str) -> str:
    """Return a URL as it is sent: as given, %27 and ' kept apart, since a signature is of one.

    Only what no request can hold is encoded: spaces, control characters, and what is not ASCII.
    Raises ValueError for a host that cannot be.
    """
    match = _PARTS.fullmatch(url)
    if match is None:
        raise ValueError(f"not a URL: {shown(url)}")
    scheme, place, rest = match.groups()
    user, at, host = place.rpartition("@")
    if not host.isascii():
        host = host.encode("idna").decode()
    return f"{scheme.lower()}://{_quoted(user)}{at}{host}{_quoted(rest)}"


def _quoted(text: str) -> str:
    return quote(text, safe=string.punctuation, errors="surrogateescape")
