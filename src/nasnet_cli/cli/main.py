"""The command line: a group whose commands are imported when they are called, and its exits."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
from typing import Any, NoReturn

import click

from nasnet_cli.errors import NasnetError

# Each command's module in this package, and the line that says what it does: `nasnet --help` must
# not import them all.
COMMANDS = {
    "classify": "Say what pictures show.",
    "embed": "Turn pictures into feature vectors.",
    "export": "Write a model in another form, and check it.",
    "inspect": "Say what a model is.",
    "similar": "Find the pictures that are most like a picture.",
    "duplicates": "Find groups of pictures that are nearly the same.",
    "status": "Say how far a job with shards is.",
    "merge": "Make one file of a job with shards.",
    "cache": "List, check and remove what is kept of models.",
}

EXIT_PROBLEM = 1
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_GARBAGE_THRESHOLD = 50_000


class LazyGroup(click.Group):
    """A group that imports a command's module when the command itself is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"nasnet_cli.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from nasnet_cli import __version__

        click.echo(f"nasnet {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "NASNET",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Say what is in folders of pictures, with NASNet-A.

    The built-in model works at once and without a network; --model takes others.
    """


def run(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its status. The console script's entry.

    Arguments that are given come from Python, whose process goes on after SystemExit.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if arguments is not None:
        sys.exit(_status(arguments))
    # What is imported stays: looking through it for garbage again and again takes a tenth of a
    # short run.
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
    _leave(_status(arguments))


def _leave(status: int) -> NoReturn:
    """Exits without taking apart what is in memory, which takes a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader may have gone
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(status)


def _terminate(*_: Any) -> None:
    raise SystemExit(EXIT_TERMINATED)


def _status(arguments: list[str] | None) -> int:
    try:
        result = main.main(arguments, prog_name="nasnet", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `nasnet … | head`; nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except NasnetError as error:
        _explain(str(error))
        return EXIT_PROBLEM
    except MemoryError:
        _explain("There is not enough memory. Close other programs, or use fewer --workers.")
        return EXIT_PROBLEM
    except Exception as error:  # the last resort: users get a sentence, never a traceback
        _explain(
            f"Something unforeseen went wrong ({type(error).__name__}: {error}). "
            "Please report it, with what NASNET_DEBUG=1 shows."
        )
        return EXIT_PROBLEM


def _explain(message: str) -> None:
    if os.environ.get("NASNET_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    from nasnet_cli.results.text import printable

    click.echo(f"Error: {printable(message)}", err=True)
