"""The manifest: the list of all images of a sharded job, written before the work, in fixed slices.

    OUT/manifest/manifest.json       what is done with the images, and the segments
    OUT/manifest/pictures-0.r1.jsonl the images of segment 0, a line each (entries.py)
    OUT/manifest/slices-0.r1.txt     a line for each shard: first image, images, place, sha256

An image's number is its line's, counted through the segments. Images that are added later are a
segment of their own, so that no earlier shard changes. manifest.json is written last and by rename:
without it there is no manifest. Memory stays flat however many images there are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, BinaryIO

from nasnet_cli.errors import NasnetError
from nasnet_cli.images.source import MAX_BYTES, SkipCounter, Source
from nasnet_cli.jobs.identity import difference
from nasnet_cli.jobs.shards.entries import entry_lines, entry_sources
from nasnet_cli.jobs.shards.slices import Cut, Segment, Slice
from nasnet_cli.jobs.spec import JobSpec, Kind
from nasnet_cli.kept_files import check_fields, open_kept, parse_json
from nasnet_cli.results.atomic import errors_in_words, open_output
from nasnet_cli.results.formats import mergeable_formats

if TYPE_CHECKING:
    from nasnet_cli.model import Model
    from nasnet_cli.results.formats import FormatName

FORMAT = "nasnet-manifest"
VERSION = 1

DESCRIBED = ("tool", "runtime", "model", "preprocessing", "options")
"""Parts of the work that stand in each marker too, for readers of the shard alone."""

# The part of the work that shows the spec; the others are what must be the same to continue.
_SPEC = "work"
# First image, images, place and length in bytes, sha256. All lines have one width, so that a
# shard's line is found by its number.
_SLICE_LINE = "{:015d} {:010d} {:018d} {:015d} {}\n"
_SLICE_LINE_BYTES = 15 + 10 + 18 + 15 + 64 + 5


@dataclass(frozen=True)
class Manifest:
    """A manifest on disk. out is the job's folder; start is where relative paths begin.

    work is what is done with the images and all that the results depend on, as JSON has it
    (describe_work).
    """

    out: Path
    start: str
    work: dict[str, Any]
    cut: Cut
    passed_over: int
    revision: int
    segments: tuple[Segment, ...]

    @property
    def folder(self) -> Path:
        return manifest_folder(self.out)

    @property
    def formats(self) -> dict[Kind, FormatName]:
        """The format of each kind of results."""
        return dict(self.work["formats"])

    @property
    def images(self) -> int:
        return sum(segment.pictures for segment in self.segments)

    @property
    def shards(self) -> int:
        return sum(segment.shards for segment in self.segments)

    def slices(self) -> Iterator[Slice]:
        """Yield all slices in order. Raises NasnetError when the manifest is damaged."""
        for segment in self.segments:
            path, digest = self.folder / segment.slices_name, hashlib.sha256()
            with _open(path) as stream:
                for shard in range(segment.first_shard, segment.first_shard + segment.shards):
                    line = stream.read(_SLICE_LINE_BYTES)
                    digest.update(line)
                    yield _slice(shard, line, path)
            if digest.hexdigest() != segment.sha256:
                raise _damaged(path)

    def slice(self, shard: int) -> Slice:
        """Return the slice of one shard, without reading the others."""
        segment = self._segment(shard)
        path = self.folder / segment.slices_name
        with _open(path) as stream:
            stream.seek((shard - segment.first_shard) * _SLICE_LINE_BYTES)
            return _slice(shard, stream.read(_SLICE_LINE_BYTES), path)

    def lines(self, shard: int) -> list[bytes]:
        """Return a shard's lines, checked against their digest."""
        piece = self.slice(shard)
        path = self.folder / self._segment(shard).images_name
        with _open(path) as stream:
            stream.seek(piece.offset)
            data = stream.read(piece.bytes)
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise _damaged(path)
        return data.splitlines(keepends=True)

    def sources(self, shard: int, *, max_bytes: int = MAX_BYTES) -> Iterator[Source]:
        """Yield a shard's images, in order."""
        try:
            yield from entry_sources(self.lines(shard), self.start, max_bytes=max_bytes)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(self.folder / self._segment(shard).images_name) from error

    def _segment(self, shard: int) -> Segment:
        for segment in self.segments:
            if segment.first_shard <= shard < segment.first_shard + segment.shards:
                return segment
        raise NasnetError(
            f"The manifest in {self.folder} has no shard {shard}.",
            f"Its shards are 0 to {self.shards - 1}.",
        )


def describe_work(
    spec: JobSpec, model: Model, formats: Mapping[Kind, FormatName]
) -> dict[str, Any]:
    """Return the work of a manifest: the identity, the formats of the outputs, and the spec."""
    work = {**spec.identity(model), "formats": dict(formats), _SPEC: spec.to_dict()}
    as_json: dict[str, Any] = json.loads(json.dumps(work))
    return as_json


def check_same_work(manifest: Manifest, work: Mapping[str, Any]) -> None:
    """Raise NasnetError, naming the differences, unless a manifest's work is this one."""
    old, new = (
        {name: part for name, part in described.items() if name != _SPEC}
        for described in (manifest.work, work)
    )
    if differs := difference(old, new):
        raise NasnetError(
            f"The job in {manifest.out} {differs}.",
            "Use the same options, or another folder for --out.",
        )


def manifest_folder(out: Path) -> Path:
    """Return the folder of the manifest of the job in the folder out."""
    return out / "manifest"


def manifest_exists(out: Path) -> bool:
    """Return whether the folder out holds a job."""
    return (manifest_folder(out) / "manifest.json").exists()


def make_manifest(
    out: Path, sources: Iterable[Source], skips: SkipCounter, *, work: dict[str, Any], cut: Cut
) -> Manifest:
    """List all sources, cut them and write the manifest into out, which is created if need be.

    skips counts what listing the sources skips, and is read at the end. Finished shards in out
    stay, and count where their images and the work are the same. Raises NasnetError when there are
    no sources, OutputError when out cannot be written.
    """
    empty = Manifest(out, str(Path.cwd()), work, cut, 0, 0, ())
    manifest = add_segment(empty, entry_lines(sources), cut)
    if not manifest.segments:
        raise NasnetError("There are no images.", "Name images, or folders that have some.")
    manifest = replace(manifest, passed_over=skips.count, revision=1)
    _remove_files(out, r"\.shard-\d+\..*")  # unfinished ones, of a job that is no more
    save(manifest)
    return manifest


def clear_job(out: Path) -> None:
    """Remove the job in the folder out, if there is one. Raises OutputError."""
    folder = manifest_folder(out)
    # First, so that a kill leaves no job.
    _remove_files(folder, r"manifest\.json")
    _remove_files(folder, r"(pictures|slices)-\d+\.r\d+\.\w+")
    _remove_files(out, r"\.?shard-\d+\..*")


def _remove_files(folder: Path, names: str) -> None:
    with errors_in_words(folder), suppress(FileNotFoundError):
        for path in folder.iterdir():
            if re.fullmatch(names, path.name):
                path.unlink(missing_ok=True)


def open_manifest(out: Path) -> Manifest:
    """Read the manifest in the folder out. Raises NasnetError: none, damaged, other version."""
    path = manifest_folder(out) / "manifest.json"
    with _open(path) as stream:
        text = stream.read()
    try:
        content = parse_json(text)
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise NasnetError(f"{path} is not a manifest of nasnet.", "Name another folder.")
    if content.get("version") != VERSION:
        raise NasnetError(
            f"{path} has version {content.get('version')} of the format; this nasnet reads version "
            f"{VERSION}.",
            "Use the version of nasnet that started the job, or start another in a new folder.",
        )
    try:
        return _checked(out, content)
    except ValueError as error:
        raise _damaged(path) from error


_TOP = {
    "start": str, "work": dict, "cut": dict, "passed_over": int, "revision": int, "segments": list,
}  # fmt: skip
_CUT = {"shards": (int, NoneType), "shard_size": (int, NoneType)}
_SEGMENT = {field.name: str if field.name == "sha256" else int for field in fields(Segment)}


def _checked(out: Path, content: dict[str, Any]) -> Manifest:
    """Return the manifest that content describes. Raises ValueError if it describes none."""
    check_fields(content, _TOP)
    work = check_fields(content["work"], dict.fromkeys((*DESCRIBED, "formats", _SPEC), dict))
    if not work["formats"] or not all(
        kind in ("labels", "vectors") and format_ in mergeable_formats(kind)
        for kind, format_ in work["formats"].items()
    ):
        raise ValueError("formats are not those of shards")
    cut = check_fields(content["cut"], _CUT)
    shard_count, shard_size = cut.get("shards"), cut.get("shard_size")
    if 0 in (shard_count, shard_size) or [shard_count, shard_size].count(None) != 1:
        raise ValueError("cut is not one")
    segments = []
    shards = images = 0
    for number, segment in enumerate(content["segments"]):
        found = Segment(**{name: check_fields(segment, _SEGMENT)[name] for name in _SEGMENT})
        if (found.number, found.first_shard, found.first) != (number, shards, images):
            raise ValueError("segments do not follow each other")
        shards, images = shards + found.shards, images + found.pictures
        segments.append(found)
    return Manifest(
        out,
        content["start"],
        work,
        Cut(shard_count, shard_size),
        content["passed_over"],
        content["revision"],
        tuple(segments),
    )


def save(manifest: Manifest) -> None:
    """Write manifest.json: from then on the manifest is this one."""
    from nasnet_cli import __version__

    content = {
        "format": FORMAT,
        "version": VERSION,
        "tool": {"name": "nasnet", "version": __version__},
        "revision": manifest.revision,
        "start": manifest.start,
        "cut": asdict(manifest.cut),
        "pictures": manifest.images,
        "shards": manifest.shards,
        "passed_over": manifest.passed_over,
        "segments": [asdict(segment) for segment in manifest.segments],
        "work": manifest.work,
    }
    with open_output(manifest.folder / "manifest.json", overwrite=True) as stream:
        stream.write((json.dumps(content, indent=1) + "\n").encode())


def add_segment(manifest: Manifest, lines: Iterable[bytes], cut: Cut) -> Manifest:
    """Return the manifest with a new last segment of lines: its files are written, it isn't."""
    with errors_in_words(manifest.folder):
        manifest.folder.mkdir(parents=True, exist_ok=True)
    revision = manifest.revision + 1
    blank = Segment(len(manifest.segments), revision, manifest.shards, 0, manifest.images, 0, "")
    images = 0
    with open_output(manifest.folder / blank.images_name, overwrite=True) as stream:
        for line in lines:
            stream.write(line)
            images += 1
    if not images:
        (manifest.folder / blank.images_name).unlink()
        return manifest
    segment = write_slices(manifest.folder, blank, cut.sizes(images))
    return replace(manifest, segments=(*manifest.segments, segment))


def write_slices(folder: Path, segment: Segment, sizes: Iterable[int]) -> Segment:
    """Cut a segment's file of images into slices of these sizes, and write the file of slices."""
    whole = hashlib.sha256()
    images = shards = offset = 0
    with (
        _open(folder / segment.images_name) as lines,
        open_output(folder / segment.slices_name, overwrite=True) as stream,
    ):
        for size in sizes:
            digest, length = hashlib.sha256(), 0
            for line in islice(lines, size):
                digest.update(line)
                length += len(line)
            first = segment.first + images
            text = _SLICE_LINE.format(first, size, offset, length, digest.hexdigest()).encode()
            whole.update(text)
            stream.write(text)
            images, shards, offset = images + size, shards + 1, offset + length
    return replace(segment, pictures=images, shards=shards, sha256=whole.hexdigest())


def remove_old(manifest: Manifest) -> None:
    """Remove files of earlier revisions: those that the manifest does not name."""
    kept = {name for s in manifest.segments for name in (s.images_name, s.slices_name)}
    for path in manifest.folder.glob("*-*.r*.*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _slice(shard: int, line: bytes, path: Path) -> Slice:
    words = line.split()
    if len(line) != _SLICE_LINE_BYTES or len(words) != 5:
        raise _damaged(path)
    try:
        first, images, offset, length = map(int, words[:4])
    except ValueError as error:
        raise _damaged(path) from error
    return Slice(shard, first, images, offset, length, words[4].decode("ascii", "replace"))


def _open(path: Path) -> BinaryIO:
    try:
        return open_kept(path)
    except FileNotFoundError as error:
        out = path.parent.parent
        if path.name != "manifest.json":
            raise _damaged(path) from error
        raise NasnetError(
            f"There is no sharded job in {out}.",
            "Name the folder that --out named when the job was started.",
        ) from error
    except OSError as error:
        reason = error.strerror or "input/output error"
        raise NasnetError(
            f"{path} cannot be read: {reason}.", "Check the folder, and run again."
        ) from error


def _damaged(path: Path) -> NasnetError:
    return NasnetError(
        f"The manifest is damaged: {path} is not what was written.",
        f"Remove {path.parent} and run again: images are listed once more, and finished shards "
        "stay where the list is the same.",
    )
