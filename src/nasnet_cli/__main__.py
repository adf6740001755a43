"""Entry of `nasnet` and of `python -m nasnet_cli`."""

from nasnet_cli.cli import signals, startup, streams


def run() -> None:
    """Run the command line and exit with its status."""
    # All before the import, which takes most of a short run.
    startup.relax_garbage_collection()
    streams.restore()
    signals.catch()
    from nasnet_cli.cli.main import run as run_command

    run_command()


if __name__ == "__main__":
    run()
