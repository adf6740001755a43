"""Entry of `nasnet` and of `python -m nasnet_cli`."""

from nasnet_cli.cli import signals, streams

if __name__ == "__main__":
    streams.restore()
    signals.catch()  # before the imports below, which take most of a short run

from nasnet_cli.cli.main import run

if __name__ == "__main__":
    run()
