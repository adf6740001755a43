"""nasnet classify as a user runs it, on real files."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.cli import NASNET, WATCHDOG
from support.waiting import wait_until


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of five images, one of them in a subfolder, beside other files."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    random = np.random.default_rng(5)
    for i, name in enumerate(["a.jpg", "b.png", "below/c.jpg", "d.webp", "e.bmp"]):
        pixels = random.integers(0, 256, (4 + i, 6, 3), np.uint8)
        Image.fromarray(pixels).resize((90 + 20 * i, 70)).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_piped_results_are_json_lines_in_input_order(nasnet, photos, tiny_module):
    done = nasnet("classify", photos, "-m", tiny_module, "--top", 2)
    assert done.exit_code == 0
    names = [Path(row["path"]).relative_to(photos).as_posix() for row in done.rows]
    assert names == ["a.jpg", "b.png", "below/c.jpg", "d.webp", "e.bmp"]
    for row in done.rows:
        assert row["status"] == "ok"
        assert [found["rank"] for found in row["predictions"]] == [1, 2]
        first, second = row["predictions"]
        assert 1 >= first["probability"] >= second["probability"] >= 0
        assert first["label"] == f"class {first['index']}"
    assert "5 images: 5 classified; 1 skipped: 1 TXT;" in done.stderr


def test_results_agree_with_tensorflow(nasnet, photos, tiny_module):
    """The whole way, by other means: Pillow's documented calls and hub.load's signature."""
    import warnings

    from nasnet_cli.quiet import tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub as hub
    done = nasnet("classify", photos, "-m", tiny_module, "--logits", "--top", 7)
    module = hub.load(str(tiny_module))
    for row in done.rows:
        image = Image.open(row["path"]).convert("RGB")
        w, h = image.size
        box = (w * 0.0625, h * 0.0625, w * 0.9375, h * 0.9375)
        image = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(image, np.float32)[None] / np.float32(255)
        logits = module.signatures["default"](tf.constant(pixels))["default"].numpy()[0]
        probabilities = tf.nn.softmax(logits).numpy()
        for found in row["predictions"]:
            assert found["logit"] == pytest.approx(logits[found["index"]], abs=1e-5)
            assert found["probability"] == pytest.approx(probabilities[found["index"]], abs=1e-5)


def test_everyday_labels_come_of_all_outputs_before_top(nasnet, photos, tiny_module, label_file):
    command = ("classify", photos, "-m", tiny_module, "--labels", label_file)
    dogs = {"n02099601", "n02099712", "n02110958", "n02088364"}
    everything = nasnet(*command, "--top", 7, "--sure", 0.4, expect=0).rows
    first = nasnet(*command, "--top", 1, "--sure", 0.4, expect=0).rows
    assert [row["sure"] for row in first] == [row["sure"] for row in everything]
    sure = [row["sure"] for row in everything]
    assert any(found and found["label"] == "dog" for found in sure)
    for row in everything:
        total = sum(p["probability"] for p in row["predictions"] if p["wnid"] in dogs)
        if row["sure"] and row["sure"]["label"] == "dog":
            assert row["sure"]["wnid"] == "n02084071"
            assert row["sure"]["probability"] == pytest.approx(total, abs=5e-6)
            assert total > 0.4 > max(p["probability"] for p in row["predictions"])
    csv_rows = csv.DictReader(
        io.StringIO(nasnet(*command, "--sure", 0.4, "--format", "csv").stdout)
    )
    assert csv_rows.fieldnames[-3:] == ["sure_wnid", "sure_label", "sure_probability"]
    by_path = {row["path"]: row["sure_label"] for row in csv_rows}
    assert list(by_path.values()) == [found["label"] if found else "" for found in sure]


def test_sure_decides_how_specific_everyday_labels_are(nasnet, photos, tiny_module, label_file):
    command = ("classify", photos / "a.jpg", "-m", tiny_module, "--labels", label_file)
    for least, labels in (
        (
            0,
            {"golden retriever", "Labrador retriever", "pug", "beagle", "tabby", "robin", "banana"},
        ),
        (1, {None}),
    ):
        (row,) = nasnet(*command, "--sure", least, expect=0).rows
        assert (row["sure"] and row["sure"]["label"]) in labels
        if row["sure"]:
            assert row["sure"]["label"] == row["predictions"][0]["label"]
    table = nasnet(*command, "--format", "table", "--sure", 1, expect=0).stdout
    assert "Sure of" in table and "not sure" in table


def test_labels_without_ids_have_no_everyday_labels(nasnet, photos, tiny_module):
    done = nasnet("classify", photos, "-m", tiny_module, "--sure", 0, expect=0)
    assert [row["sure"] for row in done.rows] == [None] * 5
    table = nasnet("classify", photos, "-m", tiny_module, "--format", "table", expect=0).stdout
    assert "Sure of" not in table


def test_resume_with_another_sure_is_refused(nasnet, photos, tiny_module, tmp_path):
    command = ("classify", photos, "-m", tiny_module, "-o", tmp_path / "a.jsonl")
    nasnet(*command, expect=0)
    done = nasnet(*command, "--resume", "--sure", 0.7, expect=1)
    assert "--sure 0.5" in done.stderr and "--sure 0.7" in done.stderr
    meta = json.loads((tmp_path / "a.jsonl.meta.json").read_text())
    assert meta["options"]["sure"] == 0.5


def test_bytes_do_not_depend_on_the_number_of_workers(nasnet, photos, tiny_module, tmp_path):
    contents = set()
    for workers in (1, 2, 8):
        out = tmp_path / f"{workers}.json"
        done = nasnet("classify", photos, "-m", tiny_module, "-o", out, "--workers", workers)
        assert done.exit_code == 0
        contents.add((out.read_bytes(), Path(f"{out}.meta.json").read_bytes()))
    assert len(contents) == 1


def test_failing_inputs_have_error_rows(nasnet, photos, tiny_module, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    whole = (photos / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    inputs = [tmp_path / "text.jpg", photos / "a.jpg", tmp_path / "cut.jpg", tmp_path / "gone.jpg"]
    done = nasnet("classify", *inputs, photos / "b.png", "-m", tiny_module)
    assert done.exit_code == 3
    found = done.rows
    assert [Path(row["path"]) for row in found] == [*inputs, photos / "b.png"]
    kinds = [row["error"]["kind"] if row["status"] == "error" else "ok" for row in found]
    assert kinds == ["not_an_image", "ok", "truncated", "not_found", "ok"]
    assert all(row["error"]["message"] for row in found if row["status"] == "error")
    assert "Traceback" not in done.stderr
    assert (
        "5 images: 2 classified; 3 errors: 1 not_an_image (leave them out), "
        "1 not_found (check the names), 1 truncated (copy them again); " in done.stderr
    )


@pytest.mark.parametrize("option", ["--from", "-"])
def test_missing_paths_of_a_list_have_rows(option, nasnet, tiny_module, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("gone.jpg\r\nlost/\n")
    arguments = ("--from", names) if option == "--from" else ("-",)
    stdin = names.read_bytes() if option == "-" else None
    done = nasnet("classify", *arguments, "-m", tiny_module, stdin=stdin, expect=3)
    rows = [(row["path"], row["error"]["kind"]) for row in done.rows]
    assert rows == [("gone.jpg", "not_found"), ("lost/", "not_found")]
    assert "2 errors: 2 not_found (check the names)" in done.stderr


def test_errors_have_one_line_when_quiet(nasnet, photos, tiny_module, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_text("no image")
    paths = (tmp_path / "gone.jpg", tmp_path, "-m", tiny_module, "-q")
    done = nasnet("classify", *paths, expect=3)
    errors = "4 errors: 3 not_an_image (leave them out), 1 not_found (check the names)."
    assert done.stderr == errors + "\n"
    assert nasnet("classify", photos, "-m", tiny_module, "-q", expect=0).stderr == ""


def test_skipped_files_are_counted_by_kind(nasnet, tiny_module, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    for name in ("a.xmp", "b.xmp", "clip.MOV", ".hidden", "noext"):
        (tmp_path / name).write_text("text")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    done = nasnet("classify", tmp_path, "-m", tiny_module, expect=0)
    skipped = "6 skipped: 2 XMP, 1 MOV, 1 hidden, 1 link, 1 other"
    assert f"1 image: 1 classified; {skipped}; " in done.stderr
    out = ("-o", tmp_path / "out.jsonl")
    done = nasnet("classify", tmp_path, "-m", tiny_module, *out, expect=0)
    assert f"; {skipped}; " in done.stderr


def test_a_single_failing_input_has_its_row(nasnet, tiny_module, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    done = nasnet("classify", tmp_path / "text.jpg", "-m", tiny_module)
    assert (done.exit_code, len(done.rows)) == (3, 1)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["Fotos"], "Fotos does not exist. Did you mean photos?"),
        (["photo/2024/a.jpg"], "photo/2024/a.jpg does not exist. Did you mean photos/2024/a.jpg?"),
        (["photos/IMG.JPG"], "photos/IMG.JPG does not exist. Did you mean photos/img.jpg?"),
        (
            ["/mnt/usb/photos"],
            "There is no /mnt/usb: check the name, or whether a disk is mounted.",
        ),
        (["zzz", "/none/a"], "None of zzz, /none/a exists. Check the name, and the folder that"),
        (["~/photos"], "Shells expand ~ only outside quotes. Use /home/me/photos."),
        (
            ["photos/*.png"],
            "Shells expand patterns only outside quotes, and only those that match.",
        ),
        (["link.jpg"], "link.jpg is a link to elsewhere, which does not exist."),
        ([""], "A path that is empty does not exist."),
        (["a\nb"], "a\\x0ab does not exist."),
        (["photos/img.jpg/x"], "photos/img.jpg/x does not exist."),
    ],
)
def test_where_no_path_exists_the_error_has_a_suggestion(
    nasnet, tiny_module, tmp_path, paths, words
):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/img.jpg").write_bytes(b"")
    (tmp_path / "link.jpg").symlink_to("elsewhere")
    before = sorted(tmp_path.rglob("*"))
    for out in ((), ("-o", "out.jsonl")):
        command = ("classify", *paths, "-m", tiny_module, *out)
        done = nasnet(*command, cwd=tmp_path, expect=1, HOME="/home/me")
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ") and words in line
        assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_where_one_path_exists_the_others_have_rows(nasnet, photos, tiny_module):
    done = nasnet("classify", "gone.jpg", photos / "a.jpg", "-m", tiny_module, expect=3)
    assert [row["status"] for row in done.rows] == ["error", "ok"]


def test_what_cannot_be_read_has_rows(nasnet, photos, tiny_module, tmp_path):
    """Linux answers EIO where nothing is mapped in a process's memory."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.jpg").symlink_to("/proc/self/mem")
    (tmp_path / "a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    done = nasnet("classify", tmp_path, "/proc/self/mem", "-m", tiny_module, expect=3)
    kinds = [row.get("error", {}).get("kind") for row in done.rows]
    assert kinds == [None, "unreadable", "unreadable"]
    assert "Input/output error" in done.rows[1]["error"]["message"]


def test_folder_without_images_is_an_error(nasnet, tiny_module, tmp_path):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out.jsonl"
    done = nasnet("classify", tmp_path / "empty", "-m", tiny_module, "-o", out)
    assert done.exit_code == 1
    assert f"There are no images in {tmp_path / 'empty'}." in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("*out*")) == [] and list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("kind", ["absent", "empty folder", "text file", "broken", "train only"])
def test_unreadable_model_is_an_error_in_one_line(nasnet, kind, photos, tiny_module, tmp_path):
    folder = tmp_path / "model"
    if kind == "empty folder":
        folder.mkdir()
    elif kind == "text file":
        folder.write_text("hello")
    elif kind == "broken":
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"\xff" * 100)
    elif kind == "train only":
        import shutil

        from nasnet_cli.models.savedmodel import schema

        shutil.copytree(tiny_module, folder)
        model = schema.parse("SavedModel", (folder / "saved_model.pb").read_bytes())
        kept = [g for g in model.meta_graphs if "train" in g.meta_info_def.tags]
        del model.meta_graphs[:]
        model.meta_graphs.extend(kept)
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    done = nasnet("classify", photos, "-m", folder)
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and str(folder) in line


def test_all_formats_hold_the_same_results(nasnet, photos, tiny_module, tmp_path):
    outs = {name: tmp_path / f"out.{name}" for name in ("jsonl", "json", "csv")}
    for out in outs.values():
        assert nasnet("classify", photos, "-m", tiny_module, "-o", out, "-q").exit_code == 0
    lines = [json.loads(line) for line in outs["jsonl"].read_text().splitlines()]
    document = json.loads(outs["json"].read_text())
    assert document["results"] == lines
    assert document["summary"] == {"inputs": 5, "ok": 5, "failed": 0, "passed_over": 1}
    table = list(csv.DictReader(io.StringIO(outs["csv"].read_text())))
    assert [(row["path"], row["label"], float(row["probability"])) for row in table] == [
        (line["path"], found["label"], found["probability"])
        for line in lines
        for found in line["predictions"]
    ]
    meta = json.loads(Path(f"{outs['csv']}.meta.json").read_text())
    assert meta["model"]["digest"] == document["model"]["digest"]
    assert meta["preprocessing"]["digest"] == document["preprocessing"]["digest"]


def test_existing_output_is_kept_without_overwrite(nasnet, photos, tiny_module, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("mine")
    done = nasnet("classify", photos, "-m", tiny_module, "-o", out)
    assert (done.exit_code, out.read_text()) == (1, "mine")
    assert "--overwrite" in done.stderr
    assert nasnet("classify", photos, "-m", tiny_module, "-o", out, "--overwrite").exit_code == 0
    assert out.read_text().startswith("path,status,")


def test_no_model_still_opens_after_a_command_in_this_process(
    nasnet, photos, tiny_module, cache_folder, tmp_path
):
    """Else a test that changes the environment under OpenVINO ends the process by SIGSEGV."""
    out = tmp_path / "absent" / "out.csv"
    nasnet("classify", photos, "-m", tiny_module, "-o", out, expect=1)
    assert "open" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("option", [("--normalize",), ("--dtype", "float16")])
def test_vector_options_need_embed(nasnet, option, photos):
    done = nasnet("classify", photos, *option)
    assert done.exit_code == 2 and "need --embed" in done.stderr


def test_unknown_extension_is_a_usage_error(nasnet, photos, tiny_module, tmp_path):
    done = nasnet("classify", photos, "-m", tiny_module, "-o", tmp_path / "out.xyz")
    assert done.exit_code == 2
    assert "--format" in done.stderr


def test_labels_file_is_used_and_must_match_the_model(nasnet, photos, tiny_module, tmp_path):
    names = tmp_path / "labels.txt"
    names.write_text("".join(f"thing {i}\n" for i in range(7)))
    done = nasnet("classify", photos, "-m", tiny_module, "--labels", names)
    assert all(
        found["label"] == f"thing {found['index']}"
        for row in done.rows
        for found in row["predictions"]
    )
    names.write_text("one\ntwo\n")
    done = nasnet("classify", photos, "-m", tiny_module, "--labels", names)
    assert done.exit_code == 1
    assert "has 2 labels, but the model has 7 classes" in done.stderr


def test_paths_come_from_standard_input_and_from_a_file(nasnet, photos, tiny_module, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos / 'b.png'}\n{photos / 'below'}\n")
    from_file = nasnet("classify", "--from", listed, "-m", tiny_module)
    from_input = nasnet("classify", "-", "-m", tiny_module, stdin=listed.read_bytes())
    assert [Path(row["path"]).name for row in from_file.rows] == ["b.png", "c.jpg"]
    assert from_file.stdout == from_input.stdout


def test_default_input_is_the_current_folder(nasnet, photos, tiny_module):
    done = nasnet("classify", "-m", tiny_module, "--no-recursive", cwd=photos)
    assert [row["path"] for row in done.rows] == ["./a.jpg", "./b.png", "./d.webp", "./e.bmp"]


def test_archives_are_read_in_place(nasnet, photos, tiny_module, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(photos / "a.jpg", "x/a.jpg")
    done = nasnet("classify", archive, "-m", tiny_module)
    (row,) = done.rows
    (plain,) = nasnet("classify", photos / "a.jpg", "-m", tiny_module).rows
    assert row["path"] == f"{archive}!/x/a.jpg"
    assert row["predictions"] == plain["predictions"]


def test_quiet_prints_only_errors(nasnet, photos, tiny_module):
    assert nasnet("classify", photos, "-m", tiny_module, "-q").stderr == ""


def test_options_can_come_from_the_environment(nasnet, photos, tiny_module):
    done = nasnet("classify", photos, "-m", tiny_module, NASNET_CLASSIFY_TOP="1")
    assert all(len(row["predictions"]) == 1 for row in done.rows)


def test_variables_have_the_names_of_options(nasnet, photos, tiny_module, tmp_path):
    """Not of parameters: FORMAT, not FORMAT_."""
    (tmp_path / "list").write_text(f"{photos}/a.jpg\n")
    command = ("classify", "-m", tiny_module)
    done = nasnet(
        *command, NASNET_CLASSIFY_FROM=str(tmp_path / "list"), NASNET_CLASSIFY_FORMAT="csv"
    )
    assert done.stdout.startswith("path,status,rank") and "a.jpg" in done.stdout
    one = nasnet(*command, photos, NASNET_CLASSIFY_RECURSIVE="0", NASNET_CLASSIFY_EXCLUDE="a.* b.*")
    assert [Path(row["path"]).name for row in one.rows] == ["d.webp", "e.bmp"]


def test_some_variables_are_for_all_commands(nasnet, photos, tiny_module):
    command = ("classify", photos / "a.jpg")
    shared = {"NASNET_MODEL": str(tiny_module), "NASNET_WORKERS": "1"}
    expected = nasnet(*command, "-m", tiny_module).rows
    assert nasnet(*command, **shared, expect=0).rows == expected
    wrong = nasnet(*command, **shared, NASNET_RUNTIME="abacus", expect=2)
    assert "Invalid value for NASNET_RUNTIME, for --runtime: 'abacus'" in wrong.stderr
    own = {"NASNET_CLASSIFY_RUNTIME": "openvino", "NASNET_RUNTIME": "abacus"}
    assert nasnet(*command, **shared, **own, expect=0).rows == expected
    wrong = nasnet(*command, **shared, NASNET_CLASSIFY_WORKERS="many", expect=2)
    assert "Invalid value for NASNET_CLASSIFY_WORKERS, for --workers:" in wrong.stderr


def test_no_variable_says_what_is_written_or_trusted(nasnet, photos, tiny_module, tmp_path):
    out = tmp_path / "out.jsonl"
    command = ("classify", photos / "a.jpg", "-m", tiny_module)
    done = nasnet(*command, NASNET_CLASSIFY_OUT=str(out), NASNET_CLASSIFY_ALLOW_UNSAFE_OPS="1")
    assert done.rows and not out.exists()
    out.write_text("mine")
    nasnet(*command, "-o", out, NASNET_CLASSIFY_OVERWRITE="1", expect=1)
    assert out.read_text() == "mine"


def test_closed_pipe_is_not_an_error(photos, tiny_module):
    command = f"{' '.join(NASNET)} classify {photos} {photos} -q -m {tiny_module} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


def test_row_is_written_before_the_next_path_is_listed(photos, tiny_module):
    command = [*NASNET, "classify", "-", "-q", "-m", str(tiny_module)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(3):
            process.stdin.write(f"{photos / 'a.jpg'}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == str(photos / "a.jpg")
        process.stdin.close()
        assert process.wait(timeout=WATCHDOG) == 0
        assert process.stdout.read() == b""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_no_partial_file(sent, status, photos, tiny_module, tmp_path):
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [*NASNET, "classify", "-", "-m", str(tiny_module), "-o", str(out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(f"{photos}\n".encode() * 50)
    process.stdin.flush()  # and left open: the job is not done
    state = tmp_path / ".out.jsonl.resume"
    wait_until(lambda: state.exists() and state.stat().st_size, process)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=WATCHDOG)
    assert process.returncode == status
    assert b"Traceback" not in stderr
    assert {path.name for path in tmp_path.iterdir()} <= {".out.jsonl.resume"}


def test_openvino_sends_no_telemetry_and_writes_nothing_to_home(photos, tiny_module, tmp_path):
    variables = {k: v for k, v in os.environ.items() if k != "CI"}
    done = subprocess.run(
        [*NASNET, "classify", str(photos), "-q", "-m", str(tiny_module)],
        env={**variables, "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_bytes_have_rows(nasnet, photos, tiny_module, tmp_path):
    import base64

    folder = tmp_path / "names"
    folder.mkdir()
    names = [b"\xff\xfe.png", b"a\nb.png", b"=cmd.png", "naïve 猫.png".encode(), b"\x1b[31m.png"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes((photos / "b.png").read_bytes())
    done = nasnet("classify", folder, "-m", tiny_module)
    assert done.exit_code == 0
    found = [
        base64.b64decode(row["path_bytes"]) if "path_bytes" in row else row["path"].encode()
        for row in done.rows
    ]
    assert found == [os.fsencode(folder / os.fsdecode(name)) for name in sorted(names)]
    shown = nasnet("classify", folder, "-m", tiny_module, "--format", "table")
    assert shown.exit_code == 0
    assert b"\x1b" not in shown.stdout_bytes
