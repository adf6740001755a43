"""Identities of jobs, which are equal where two runs write the same bytes, compared in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasnet_cli.errors import NasnetError

Identity = Mapping[str, Mapping[str, Any]]
_SHOWN = 3
# The same model may be named in several ways; its digest counts.
_IGNORED = {
    ("model", "name"),
    ("model", "location"),
    ("tool", "earlier_versions"),
    ("runtime", "earlier_versions"),
}
_VERSIONS = ("tool", "runtime")
_ADDED_OPTIONS = {"sure"}
# What differs wherever a setting beside it does.
_DIGESTS = {("preprocessing", "digest")}
_FLAGS = {
    ("preprocessing", "resize"),
    ("preprocessing", "crop_fraction"),
    ("preprocessing", "resample"),
    ("preprocessing", "input_range"),
    ("preprocessing", "channels"),
    ("runtime", "precision"),
}
_WORDS = {
    ("tool", "version"): "nasnet {}",
    ("model", "location"): "--model {}",
    ("runtime", "name"): "--runtime {}",
    ("runtime", "version"): "runtime version {}",
    ("runtime", "instruction_set"): "instruction set {}",
    ("options", "labels"): "--labels with digest {}",
    ("formats", "labels"): "--format {}",
    ("formats", "vectors"): "--format {}",
}


def check_same_settings(
    old: Identity, new: Identity, output: str, *, accept_versions: bool = False
) -> None:
    """Raise NasnetError, naming the differences, unless two identities are the same.

    With accept_versions, versions of nasnet and of the runtime may differ.
    """
    differs = difference(old, new)
    if not differs:
        return
    remedy = "Use the same options, or start over: --overwrite instead of --resume."
    if not difference(_without_versions(old), _without_versions(new)):
        if accept_versions:
            return
        remedy = (
            "Keep its rows with --accept-versions, or start over: --overwrite instead of --resume."
        )
    raise NasnetError(f"{output} {differs}.", remedy)


def _without_versions(identity: Identity) -> Identity:
    return {
        name: {key: value for key, value in part.items() if key != "version"}
        if name in _VERSIONS
        else part
        for name, part in identity.items()
    }


def with_earlier_versions(identity: Identity, old: Identity) -> Identity:
    """Return an identity with the versions that made the rows which are kept from an older one."""
    merged = dict(identity)
    for name in _VERSIONS:
        part, before = identity.get(name, {}), old.get(name, {})
        earlier = before.get("earlier_versions")
        known = [*(earlier if isinstance(earlier, list) else ()), before.get("version")]
        versions = [version for version in known if isinstance(version, str)]
        versions = [v for v in dict.fromkeys(versions) if v != part.get("version")]
        if versions:
            merged[name] = {**part, "earlier_versions": versions}
    return merged


def same_but_older(old: Identity, new: Identity) -> tuple[Identity, Identity]:
    """Return what must be equal in an output of an earlier version that is made anew as a whole.

    That is the options, but for those that the first version did not have, and the model; of the
    built-in one only that it is the built-in one.
    """
    added = _ADDED_OPTIONS - set(old.get("options", {}))
    locations = {identity.get("model", {}).get("location") for identity in (old, new)}
    sections = ("options",) if locations == {"built-in"} else ("options", "model")
    older, newer = (
        {
            section: {k: v for k, v in identity.get(section, {}).items() if k not in added}
            for section in sections
        }
        for identity in (old, new)
    )
    return older, newer


def difference(old: Identity, new: Identity) -> str:
    """Return the difference of two identities, for a sentence that begins with the output's name.

    Like "was started with --top 5; this run has --top 3". Empty when they are the same.
    """
    changed = [
        (section, name)
        for section in dict.fromkeys([*old, *new])
        for name in dict.fromkeys([*old.get(section, {}), *new.get(section, {})])
        if old.get(section, {}).get(name) != new.get(section, {}).get(name)
        and (section, name) not in _IGNORED
    ]
    if ("model", "digest") in changed:
        # What else differs follows from it.
        before, now = (identity.get("model", {}).get("location") for identity in (old, new))
        key = ("model", "location" if before != now else "digest")
        changed = [key, *(other for other in changed if other[0] != "model")]
    changed = [key for key in changed if key not in _DIGESTS] or changed
    if not changed:
        return ""
    shown_before, shown_now = (
        ", ".join(_setting(*key, identity.get(key[0], {}).get(key[1])) for key in changed[:_SHOWN])
        for identity in (old, new)
    )
    return f"was started with {shown_before}; this run has {shown_now}"


def _setting(section: str, name: str, value: Any) -> str:
    """Return a setting in the words of the command line where it has some."""
    flag = f"--{name.replace('_', '-')}"
    if (section, name) == ("model", "location") and value == "built-in":
        value = "builtin"
    if (section, name) in _WORDS and value is not None:
        return _WORDS[section, name].format(value)
    if section in ("options", "run") or (section, name) in _FLAGS:
        if value is None or value is False:
            return f"no {flag}"
        return flag if value is True else f"{flag} {value}"
    return f"{section} {name} {'none' if value is None else value}"
