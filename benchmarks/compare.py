"""nasnet beside what people would use instead: the same photos, in turn, in whole processes.

Prints medians of wall and of processor time, the largest peak of memory, and how many times
nasnet's wall time each peer takes. Processor time says more where the machine has other work.
Everybody runs once on one photo before, uncounted, so that caches are filled. The peers are the
scripts in benchmarks/peers; the forms of the modules that they need come from `nasnet export`.

    python benchmarks/compare.py --photos examples/photos --only nasnet,openvino --cases many
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import material
from rich.console import Console
from rich.table import Table

from nasnet_cli.models.card import CARD
from nasnet_cli.models.resolve import builtin_folder

HERE = Path(__file__).parent


def builtin_size() -> int:
    """Return the side of the built-in model's images, in pixels."""
    card = json.loads((builtin_folder() / CARD).read_text(encoding="utf-8"))
    size: int = card["preprocessing"]["size"][0]
    return size


SIZES = {"built-in": builtin_size(), "mobile": 224}
CASES = {"one": "1 photo", "many": "{count} photos", "large": "{large_count} of 12 MP"}
# What the peers do as well; the built-in model has a way of its own.
PREPROCESSING = ["--resize", "stretch", "--crop-fraction", "0.875", "--resample", "bilinear"]


@dataclass(frozen=True)
class Peer:
    """A script, and the suffix of the exported model that it reads, if it needs one."""

    script: str | None
    suffix: str = ""


PEERS = {
    "nasnet": Peer(None),
    "hub-one": Peer("hub_one.py"),
    "hub-batches": Peer("hub_batches.py"),
    "keras": Peer("keras_predict.py", ".keras"),
    "openvino": Peer("openvino_async.py", ".xml"),
    "onnxruntime": Peer("onnxruntime_pool.py", ".onnx"),
}


@dataclass
class Measured:
    """All runs of one peer with one model in one case.

    same_label is the share of the photos whose best label is nasnet's too, times_nasnet the ratio
    of the medians; both only when nasnet ran as well.
    """

    model: str
    case: str
    peer: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    best: dict[str, int] = field(default_factory=dict, repr=False)
    same_label: float | None = None
    times_nasnet: float | None = None

    def compare(self, nasnet: Measured) -> None:
        same = sum(nasnet.best.get(name) == label for name, label in self.best.items())
        self.same_label = same / len(self.best)
        self.times_nasnet = statistics.median(self.seconds) / statistics.median(nasnet.seconds)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"rows": len(values.pop("best")), **values}


class Workplace:
    """The folder with photos and modules, each made when it is first asked for."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.folder = folder
        self._given = given
        # This process stays small, since what it has in memory when it starts a child counts as
        # the child's peak: what needs NumPy or TensorFlow is made in another.
        self._maker = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def _made(self, name: str, make: Callable[..., None], *arguments: object) -> Path:
        return self._maker.submit(material.made, self.folder / name, make, *arguments).result()

    def photos(self, case: str) -> Path:
        source = self._given.photos
        if case == "large":
            count = self._given.large_count
            return self._made(f"large-{count}", material.enlarge_photos, source, count)
        count = 1 if case == "one" else self._given.count
        return self._made(f"photos-{count}", material.copy_photos, source, count)

    def model(self, model: str, suffix: str) -> Path:
        """Return the module, or its export with that suffix."""
        write = material.write_builtin if model == "built-in" else material.write_mobile
        module = self._made(model, write)
        if not suffix:
            return module
        return self._made(f"{model}{suffix}", material.export, module, suffix) / f"model{suffix}"


def command(peer: str, place: Workplace, model: str, photos: Path, out: Path) -> list[str]:
    """Return the command that starts the peer."""
    at, script = place.model(model, PEERS[peer].suffix), PEERS[peer].script
    if script is None:
        options = ["--model", at, "--out", out, "--overwrite", "--quiet", *PREPROCESSING]
        return [sys.executable, *map(str, ["-m", "nasnet_cli", "classify", photos, *options])]
    arguments = [HERE / "peers" / script, at, photos, SIZES[model], out]
    return [sys.executable, *map(str, arguments)]


def run(arguments: list[str], log: Path, **variables: str) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a whole process, which must succeed."""
    with log.open("w") as file:
        start = time.perf_counter()
        child = subprocess.Popen(
            arguments, stdout=file, stderr=subprocess.STDOUT, env=os.environ | variables
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{log.read_text()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best_labels(out: Path) -> dict[str, int]:
    """Return the index of each photo's best class, by the photo's name."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return {
        Path(row["path"]).name: row["top"][0] if "top" in row else row["predictions"][0]["index"]
        for row in rows
    }


def measure(place: Workplace, model: str, case: str, peers: list[str], runs: int) -> list[Measured]:
    """Run the peers in turn, again and again."""
    photos, out, log = place.photos(case), place.folder / "out.jsonl", place.folder / "log"
    found = {peer: Measured(model, case, peer) for peer in peers}
    commands = {peer: command(peer, place, model, photos, out) for peer in peers}
    for _ in range(runs):
        for peer, measured in found.items():
            seconds, cpu, peak = run(commands[peer], log)
            print(f"{model}, {case}: {peer} {seconds:.2f} s", file=sys.stderr)
            measured.seconds.append(seconds)
            measured.cpu_seconds.append(cpu)
            measured.peak_mb.append(peak)
            measured.best = best_labels(out)
            if len(measured.best) != len(list(photos.iterdir())):
                sys.exit(f"{peer} gave {len(measured.best)} rows for the photos in {photos}.")
    for measured in found.values():
        if "nasnet" in found:
            measured.compare(found["nasnet"])
    return list(found.values())


def warm_up(place: Workplace, model: str, peers: list[str]) -> None:
    """Fill the caches of files and of compiled models."""
    for peer in peers:
        out = place.folder / "out.jsonl"
        run(command(peer, place, model, place.photos("one"), out), place.folder / "log")


def openvino_rates(place: Workplace, model: str, seconds: int) -> dict[str, float]:
    """Return images per second of the model alone, in benchmark_app and in the openvino peer."""
    at, log, size = place.model(model, ".xml"), place.folder / "log", SIZES[model]
    app = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(at), "-t", str(seconds)]
    app += ["-hint", "none", "-nstreams", str(os.cpu_count()), "-infer_precision", "f32"]
    app += ["-api", "async", "-shape", f"[4,{size},{size},3]"]
    run(app, log, CI="true")  # its usage events would go to the network
    throughput = re.search(r"Throughput:\s+([\d.]+) FPS", log.read_text())
    assert throughput, log.read_text()
    photos, out = place.photos("one"), place.folder / "out.jsonl"
    by_hand = command("openvino", place, model, photos, out)
    run(by_hand, log, OPENVINO_RATE_SECONDS=str(seconds))
    return {"benchmark_app": float(throughput[1]), "by_hand": float(log.read_text().split()[-1])}


def table(found: list[Measured], counts: dict[str, int]) -> Table:
    """Return the medians as a table to read."""
    shown = Table("Model", "Photos", "Peer", box=None, pad_edge=False)
    for name in ("Seconds", "CPU", "Peak MB", "Same label", "Times nasnet"):
        shown.add_column(name, justify="right")
    for one in found:
        shown.add_row(
            one.model,
            CASES[one.case].format_map(counts),
            one.peer,
            f"{statistics.median(one.seconds):.2f}",
            f"{statistics.median(one.cpu_seconds):.2f}",
            f"{max(one.peak_mb):.0f}",
            "" if one.same_label is None else f"{one.same_label:.0%}",
            "" if one.times_nasnet is None else f"{one.times_nasnet:.2f}",
        )
    return shown


def chosen(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Read a comma-separated list of some of these."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"not {', '.join(unknown)}, but {', '.join(known)}")
        return names

    return read


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, default=HERE.parent / "examples" / "photos", help="JPEGs to copy")
    add("--count", type=int, default=1000, help="photos in the case `many` (1000)")
    add("--large-count", type=int, default=50, help="photos in the case `large` (50)")
    add("--runs", type=int, default=3, help="of each peer (3)")
    add("--only", type=chosen(PEERS), default=list(PEERS), metavar="PEERS", help=", ".join(PEERS))
    add("--cases", type=chosen(CASES), default=list(CASES), help=", ".join(CASES))
    add("--models", type=chosen(SIZES), default=list(SIZES), help=", ".join(SIZES))
    add("--json", type=Path, metavar="FILE", help="write all runs to FILE")
    add("--folder", type=Path, help="keep photos and modules there for the next time")
    add("--cold", action="store_true", help="leave out the run that fills the caches")
    add("--rate-seconds", type=int, default=5, help="for OpenVINO's model alone; 0 leaves it out")
    return parser.parse_args()


def main() -> None:
    given = options()
    console, found, rates = Console(), [], {}
    with tempfile.TemporaryDirectory(prefix="nasnet-benchmark-") as temporary:
        place = Workplace(given.folder or Path(temporary), given)
        for model in given.models:
            if not given.cold:
                warm_up(place, model, given.only)
            for case in given.cases:
                found += measure(place, model, case, given.only, given.runs)
            if "openvino" in given.only and given.rate_seconds:
                rates[model] = openvino_rates(place, model, given.rate_seconds)
    console.print(table(found, vars(given)))
    for model, rate in rates.items():
        share = rate["by_hand"] / rate["benchmark_app"]
        console.print(
            f"{model} alone, images per second: openvino {rate['by_hand']:.0f}, "
            f"benchmark_app {rate['benchmark_app']:.0f} ({share:.0%})"
        )
    if given.json:
        runs = [measured.to_dict() for measured in found]
        given.json.write_text(json.dumps({"runs": runs, "openvino_rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
