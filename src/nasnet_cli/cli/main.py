"""The command line: a group that imports a command when it is called, and how it ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from nasnet_cli.cli import exits, signals, startup, streams
from nasnet_cli.cli.sections import Group
from nasnet_cli.cli.version import version_options
from nasnet_cli.errors import NasnetError, exhaustion

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Each command's module in this package, and its line in `nasnet --help`, which must not import
# them all.
COMMANDS = {
    "classify": "Label images.",
    "embed": "Turn images into feature vectors.",
    "export": "Convert a model to another format and check the result.",
    "inspect": "Show a model's format, signatures, labels and preprocessing.",
    "models": "List, fetch and choose models by name.",
    "evaluate": "Measure accuracy on images whose classes are known.",
    "train": "Teach a model the classes of your own folders of images.",
    "find": "Find images by what they show.",
    "sort": "Sort images into folders by their labels.",
    "tag": "Write labels as keywords into XMP sidecars.",
    "report": "Show results as one HTML page.",
    "similar": "Find the images most similar to an image.",
    "duplicates": "Find groups of near-duplicate images.",
    "status": "Show the progress of a sharded job.",
    "merge": "Merge the shards of a job into one file.",
    "cache": "List, verify and remove cached models.",
    "completion": "Print the completion script of a shell.",
}


class _ReaderLeft(Exception):  # noqa: N818 - it is no error
    """A broken pipe under another name: Click would end with its own exit status."""


@contextmanager
def _renamed_broken_pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderLeft from error


class LazyGroup(Group):
    """A group that imports a command's module when the command is asked for."""

    for_paths = "classify"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"nasnet_cli.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        with _renamed_broken_pipe():  # of --help and --version
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _renamed_broken_pipe():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        begun = [(name, text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=text) for name, text in begun]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    examples=(
        "nasnet classify photos/",
        "nasnet embed photos/ --out vectors.npy",
        "nasnet similar query.jpg --index vectors.npy",
    ),
    context_settings={
        "auto_envvar_prefix": "NASNET",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@version_options
def main(verbose: bool) -> None:
    """Classify and embed folders of images with NASNet-A, offline, on a CPU.

    The built-in model works offline; --model selects another one, and nasnet models lists those
    that have a name.

    Environment variables set options: NASNET_CLASSIFY_TOP=3 means --top 3 for nasnet classify, and
    so on for every command and option except --out, --overwrite, --prune, --allow-unsafe-ops and
    those that move or change files. NASNET_MODEL, NASNET_RUNTIME and NASNET_WORKERS apply to all
    commands.
    """
    if verbose:
        raise click.UsageError("-v belongs after the command's name, or to --version.")


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    With arguments it is called from Python, whose process goes on after SystemExit, and whose
    signals are its own.
    """
    if arguments is not None:
        sys.exit(_status(arguments))
    streams.restore()
    signals.catch()
    startup.exit_now(signals.run_to_end(lambda: _status(None)))


def _status(arguments: list[str] | None) -> int:
    """Run a command and return its exit status; errors become a sentence on standard error."""
    try:
        result = main.main(arguments, prog_name="nasnet", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        with suppress(OSError):  # standard error is full or gone
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return exits.INTERRUPTED
    except (BrokenPipeError, _ReaderLeft):
        # The reader of our output has left, as in `nasnet … | head`: nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    except NasnetError as error:
        return _problem(*error.lines)
    except Exception as error:  # the last resort: users get a sentence, never a traceback
        if isinstance(error, OSError) and (failed := streams.output_failure(error)):
            return _problem(*failed.lines)
        if exhausted := exhaustion(error):
            return _problem(*exhausted.lines)
        if isinstance(error, FileNotFoundError) and not streams.working_folder_exists():
            return _problem("The current folder has been removed. Change to another one.")
        return _problem(
            f"Unexpected error ({type(error).__name__}: {error}). "
            "Please report it together with the output of NASNET_DEBUG=1."
        )


def _problem(*lines: str) -> int:
    if os.environ.get("NASNET_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    from nasnet_cli.cli.console import Console

    Console().error(*lines)
    return exits.PROBLEM
