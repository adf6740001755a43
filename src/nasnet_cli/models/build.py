"""From a recognised file to a module's folder that is ready for the cache: unpacked or converted."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nasnet_cli.cache import CacheError
from nasnet_cli.errors import ModelError
from nasnet_cli.models.convert import VERSION, About, convert_keras, convert_slim
from nasnet_cli.models.detect import READABLE_MODELS, DetectedModel, detect, search, unrecognized
from nasnet_cli.models.hub.store import Built, Kind, entry_name, keep, known_name
from nasnet_cli.models.hub.unpack import unpack
from nasnet_cli.models.listener import ProgressListener
from nasnet_cli.models.savedmodel.reader import read_saved_model


def cached_module(found: DetectedModel, given: str, listener: ProgressListener) -> Path:
    """The folder of an archive's, a checkpoint's or a Keras file's module, kept by its content.

    given is what the user called it. Raises ModelError when it holds no module, CacheError when
    it can't be kept.
    """
    try:
        sha256 = content_sha256(found)
    except OSError as error:
        raise ModelError(f"{given} can't be read: {error.strerror}.", "Check it.") from None

    def make(work: Path) -> Built:
        folder, kind = build_module(found, work, About(), given, listener)
        return Built(folder, label, str(found.path.absolute()), kind, sha256)

    # A checkpoint is mostly called model.ckpt; its folder says more.
    label = "-".join(found.path.parts[-2:]) if found.kind == "slim" else found.path.name
    identity = f"{found.kind} {sha256} {VERSION}"
    name = known_name(identity) or entry_name(label, identity)
    return keep(name, given, make, listener)


def build_module(
    found: DetectedModel, work: Path, about: About, shown: str, listener: ProgressListener
) -> tuple[Path, Kind]:
    """Makes the module of what was found, in the folder work; how it was made comes second.

    Errors call it shown, since the names in work mean nothing to anybody. Raises ModelError when
    it is broken or of a kind that no module can be made of.
    """
    try:
        return _build(found, work, about, shown, listener)
    except CacheError:
        raise
    except ModelError as error:
        problem = error.problem
        for path in (work / "unpacked", work, found.path):
            problem = problem.replace(str(path), shown)
        raise ModelError(problem, error.remedy) from error


def _build(
    found: DetectedModel, work: Path, about: About, shown: str, listener: ProgressListener
) -> tuple[Path, Kind]:
    kind: Kind = "converted"
    if found.kind == "archive":
        unpack(found.path, work / "unpacked")
        inside = search(work / "unpacked")
        if inside is None:
            raise ModelError(
                f"The archive {shown} holds no model.", f"What was looked for: {READABLE_MODELS}."
            )
        found, kind = inside, "unpacked"
    if found.kind == "saved-model":
        read_saved_model(found.path)
        return found.path, kind
    listener.note(f"{shown}: being turned into a module, which the cache keeps.")
    if found.kind == "slim":
        convert_slim(found.path, work / "module", about)
    elif found.kind == "keras":
        convert_keras(found.path, work / "module", about)
    else:
        raise ModelError(f"{shown} is a {found.kind} file, no module.", "Name it by its path.")
    return work / "module", "converted"


def recognised(path: Path, shown: str) -> DetectedModel:
    """What a file is. Raises ModelError, which calls it shown, when it is nothing known."""
    found = detect(path)
    if found is None:
        raise unrecognized(path, shown)
    return found


def content_sha256(found: DetectedModel) -> str:
    """The SHA-256 of a file's content; of a checkpoint's files, one after the other."""
    files = [found.path]
    if found.kind == "slim":
        name = found.path.name
        files = [found.path.with_name(f"{name}.index")]
        files += sorted(found.path.parent.glob(f"{name}.data-*"))
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: total)
    return total.hexdigest()
