"""Entry of `python -m nasnet_cli`, the same as `nasnet`."""

from nasnet_cli.cli.main import run

run()
