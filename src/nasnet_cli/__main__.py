"""`python -m nasnet_cli` is `nasnet`."""

from nasnet_cli.cli.main import run

run()
