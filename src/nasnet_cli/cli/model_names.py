"""Names of models on the command line: --model, its default, and what shells complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from nasnet_cli.cli.sections import MODEL, option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def named_or_default(ctx: click.Context, _: click.Parameter, model: str | None) -> str | None:
    """Return the model of --model, or the user's default."""
    if model is not None or ctx.resilient_parsing:
        return model
    from nasnet_cli.models.default import default_model

    return default_model()


def complete_model(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete what --model takes: a name, a handle in the cache, or a path.

    A shell that completes paths does so where no name begins as typed.
    """
    from click.shell_completion import CompletionItem

    from nasnet_cli.models.hub import store
    from nasnet_cli.models.hub.published import PUBLISHED
    from nasnet_cli.models.resolve import BUILTIN

    records = map(store.read_record, store.names())
    handles = sorted({r.label for r in records if r is not None and "://" in r.label})
    path = CompletionItem(typed, type="file")
    return [path, *_beginning(typed, [BUILTIN, *PUBLISHED, *handles])]


def complete_published(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete the name of a published model."""
    from nasnet_cli.models.hub.published import PUBLISHED

    return _beginning(typed, PUBLISHED)


def complete_cached(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete the name of an item in the cache."""
    from nasnet_cli.cli.cache import item_names

    return _beginning(typed, item_names())


def _beginning(typed: str, names: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(typed)]


model_option = option(
    "-m",
    "--model",
    section=MODEL,
    metavar="MODEL",
    callback=named_or_default,
    shell_complete=complete_model,
    help="Model to use: a TF Hub module or SavedModel (folder or .tar.gz), a Keras, ONNX, TFLite "
    "or OpenVINO file, a TF-Slim checkpoint, a name of nasnet models such as imagenet-mobile or "
    "builtin, or an https handle.  [default: NASNET_MODEL, else that of nasnet models default, "
    "else the built-in model]",
)
