"""The default model: of NASNET_MODEL, else of the user's configuration file, else the built-in one.

The file is nasnet/config.toml in the user's configuration folder, and may have one line:

    model = "imagenet-mobile"
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from nasnet_cli.atomic import hidden_file
from nasnet_cli.errors import NasnetError
from nasnet_cli.kept_files import read_kept
from nasnet_cli.models.resolve import BUILTIN

VARIABLE = "NASNET_MODEL"
_MAX_BYTES = 1 << 16
_LINE = re.compile(r"^[ \t]*model[ \t]*=.*$", re.MULTILINE)


def config_file() -> Path:
    """Return the user's configuration file, there or not.

    Raises NasnetError when the user has no home.
    """
    base = os.environ.get("XDG_CONFIG_HOME")
    # The XDG specification says to ignore a relative path.
    if base and Path(base).is_absolute():
        return Path(base, "nasnet", "config.toml")
    try:
        return Path.home() / ".config" / "nasnet" / "config.toml"
    except RuntimeError:
        raise NasnetError(
            "There is no home folder for the configuration file.", "Set XDG_CONFIG_HOME."
        ) from None


def default_model() -> str | None:
    """Return the model to use when none is named; None if the user has chosen none.

    Raises NasnetError, which names the configuration file, when that cannot be used.
    """
    return os.environ.get(VARIABLE) or configured_model()


def configured_model() -> str | None:
    """Return the model that the configuration file names, if any. Raises as default_model does."""
    try:
        path = config_file()
    except NasnetError:
        return None
    try:
        # A link, as to a repository of dotfiles, is followed.
        text = read_kept(path, follow=True, max_bytes=_MAX_BYTES).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise _refused(path, "is not UTF-8") from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _refused(path, f"cannot be read: {error}") from None
    return _model_in(text, path)


def set_default(model: str) -> Path:
    """Make a model the default in the configuration file, and return the file.

    model is a name, a handle or an absolute path. All else in the file stays. Raises NasnetError
    when it cannot be written, or has errors.
    """
    path = config_file()
    configured_model()  # refuses a damaged file
    try:
        # A file that is a link, as in a repository of dotfiles, stays one.
        target = path.resolve()
        text = target.read_text(encoding="utf-8") if target.exists() else ""
        line = f"model = {_quoted(model)}"
        # A function, because a replacement's backslashes have a meaning.
        changed = _LINE.sub(lambda _: line, text, count=1) if _LINE.search(text) else ""
        changed = changed or f"{line}\n{text}"
        if _model_in(changed, path) != model:
            raise _refused(path, "has no line that can be changed")
        target.parent.mkdir(parents=True, exist_ok=True)
        with hidden_file(target) as draft:
            draft.write_text(changed, encoding="utf-8")
            draft.replace(target)
    except OSError as error:
        raise NasnetError(
            f"{path} cannot be written: {error.strerror}.",
            f"Set {VARIABLE}, or XDG_CONFIG_HOME to another folder.",
        ) from None
    return path


def _model_in(text: str, path: Path) -> str | None:
    """Return the model in the text of the configuration file at path."""
    import tomllib

    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _refused(path, "is nested too deeply") from None
    except ValueError as error:  # also of a number with too many digits
        raise _refused(path, f"is not TOML: {error}") from None
    if unknown := sorted(values.keys() - {"model"}):
        raise _refused(path, f"has the unknown key {unknown[0]!r}")
    return _checked(values["model"], path) if "model" in values else None


def _checked(model: Any, path: Path) -> str:
    from nasnet_cli.models.hub.published import PUBLISHED

    if not isinstance(model, str) or not model or "\0" in model:
        raise _refused(path, "has a model that is not a text")
    if model in (BUILTIN, *PUBLISHED) or "://" in model:
        return model
    expanded = os.path.expanduser(model)  # noqa: PTH111 - pathlib's raises for an unknown user
    # A relative path would be another model in each folder.
    if not Path(expanded).is_absolute():
        raise _refused(path, f"names the model {model!r}, which is neither published nor a path")
    return expanded


def _refused(path: Path, problem: str) -> NasnetError:
    return NasnetError(
        f"{path} {problem}.",
        'Correct it, for example: model = "imagenet-mobile" (names as in nasnet models, handles '
        "or absolute paths), or remove it.",
    )


def _quoted(text: str) -> str:
    """Return text as a string of TOML."""
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise NasnetError(
            f"{text!r} cannot be the default: its name has control characters or is not UTF-8.",
            "Rename it.",
        )
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
