"""A few dozen damaged models; `make fuzz` is the long form of it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from faults.fuzz_modules import Runner, faults, make_forms, trials


@pytest.mark.slow
def test_damaged_models_are_told_in_a_sentence(tiny_module: Path, tmp_path: Path) -> None:
    forms = make_forms(tiny_module, tmp_path / "forms", ("tar.gz", "tf1-hub"))
    runner = Runner(tmp_path)
    try:
        for form in forms.values():
            assert faults(form, tmp_path, runner) == []  # as they are, they work
        for label, form in islice(trials(forms, seed=1), 36):
            assert faults(form, tmp_path, runner) == [], label
    finally:
        runner.close()
