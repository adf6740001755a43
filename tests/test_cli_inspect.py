"""nasnet inspect, as text and as JSON."""

from __future__ import annotations

import json
import shutil

import numpy as np

from nasnet_cli.network.weights import weight_shapes


def test_json_output(nasnet, tiny_module, tiny_spec):
    done = nasnet("inspect", tiny_module, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["tag_sets"] == [[], ["train"]]
    assert found["parameters"] == sum(int(np.prod(s)) for s in weight_shapes(tiny_spec).values())
    images = found["signatures"]["default"]["inputs"]["images"]
    assert (images["dtype"], images["shape"]) == ("float32", [None, 32, 32, 3])
    assert found["signatures"]["default"]["outputs"]["default"]["shape"] == [None, 7]
    assert found["preprocessing"] == {
        "size": [32, 32],
        "resize": "stretch",
        "crop_fraction": 0.875,
        "resample": "bilinear",
    }
    assert len(found["digest"]) == 64
    assert set(found["file_sizes"]) >= {"saved_model.pb", "variables/variables.index"}


def test_text_output(nasnet, tiny_module):
    done = nasnet("inspect", tiny_module)
    assert (done.exit_code, done.stderr) == (0, "")
    for said in (
        "format            tf1-hub",
        "tag sets          {}  {train}",
        "in  images: float32 [?x32x32x3]",
        "images            32x32 RGB, values 0 to 1",
        "preprocessing     central 87.5 %, stretched, bilinear resampling",
        "unsafe operations none",
    ):
        assert said in done.stdout


def test_everyday_labels_are_described(nasnet, tiny_module, label_file, tmp_path):
    fields = json.loads(nasnet("inspect", tiny_module, "--json").stdout)
    assert fields["everyday_labels"] == {"available": False, "unknown_ids": []}
    assert "none (the labels have no WordNet ids)" in nasnet("inspect", tiny_module).stdout
    module = shutil.copytree(tiny_module, tmp_path / "module")
    labels = module / "assets.extra" / "labels.tsv"
    labels.parent.mkdir(exist_ok=True)
    rows = [line.split(" ", 1) for line in label_file.read_text().splitlines()]
    for first, unknown in ((rows[0], []), (["n99999999", "gizmo"], ["n99999999"])):
        lines = ["\t".join([str(n), *row]) for n, row in enumerate([first, *rows[1:]])]
        labels.write_text("index\twnid\tname\n" + "\n".join(lines) + "\n")
        fields = json.loads(nasnet("inspect", module, "--json").stdout)
        assert fields["everyday_labels"] == {"available": True, "unknown_ids": unknown}
    assert "yes, but nothing is known of the ids n99999999" in nasnet("inspect", module).stdout


def test_outputs_are_in_numeric_order():
    from nasnet_cli.cli.inspect import _sort_key

    names = ["Cell_10", "Stem", "Cell_2", "default", "Cell_" + "9" * 5000]
    assert sorted(names, key=_sort_key) == [names[i] for i in (3, 2, 0, 4, 1)]


def test_figures_of_the_mobile_network_are_the_published_ones(nasnet, golden_module):
    found = json.loads(nasnet("inspect", golden_module, "--json").stdout)
    assert found["parameters"] == 5_327_773
    assert round(found["multiply_adds"] / 1e6, 1) == 563.6
    assert round(found["multiply_adds_depthwise"] / 1e6, 1) == 69.7


def test_built_in_model_has_its_accuracy(nasnet):
    found = json.loads(nasnet("inspect", "--json").stdout)
    assert found["accuracy"]["pictures"] == 145
    assert found["accuracy"]["top5"] > found["accuracy"]["top1"] > 0.055
    assert found["labels"] == found["classes"] == 1001


def test_folder_without_a_model_is_a_one_line_error(nasnet, tmp_path):
    done = nasnet("inspect", tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert str(tmp_path) in line
