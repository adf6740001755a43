"""Entry of `nasnet` and of `python -m nasnet_cli`."""

from nasnet_cli.cli import signals, startup, streams

# All before the import below, which takes most of a short run.
startup.relax_garbage_collection()
if __name__ == "__main__":
    streams.restore()
    signals.catch()

from nasnet_cli.cli.main import run  # noqa: E402

if __name__ == "__main__":
    run()
