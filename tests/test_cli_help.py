"""The help of every command: examples, then options in sections."""

from __future__ import annotations

import re

import pytest

from nasnet_cli.cli.main import COMMANDS
from nasnet_cli.cli.sections import SECTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_three_examples_before_the_options(nasnet, command):
    text = nasnet(command, "--help", expect=0).stdout
    before_options = text.partition("ptions:\n")[0]
    assert len(re.findall(rf"^ +nasnet {command}\b", before_options, re.MULTILINE)) == 3


def test_help_of_classify_has_all_sections_in_order(nasnet):
    text = nasnet("classify", "--help", expect=0).stdout
    assert re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE) == ["Examples", *SECTIONS]


def test_help_fits_in_eighty_columns(nasnet):
    text = nasnet("classify", "--help", expect=0).stdout
    assert max(map(len, text.splitlines())) <= 80
