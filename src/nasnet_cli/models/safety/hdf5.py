"""Open HDF5 files from anywhere: what could lead out of a file, or fill the memory, is refused."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nasnet_cli.errors import ModelError, describe_error

_MAX_OBJECTS = 200_000
_MAX_DEPTH = 64
# gzip, shuffle, fletcher32, szip, nbit, scaleoffset and h5py's lzf: others come from plugins, code
# that HDF5 would load.
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
_CUT = re.compile(r"truncated file: eof = (\d+).*stored_eof = (\d+)")


@contextmanager
def open_hdf5(file: Path | IO[bytes], source: Path) -> Iterator[Any]:
    """Open an HDF5 file to read, all of whose parts lie in the file itself, as an h5py.File.

    source is the name for messages. Raises ModelError when the file is not HDF5 or is damaged, even
    if that shows only while it is read, and when it has links other than hard ones, datasets in
    other files, or filters from plugins.
    """
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            _check(opened, source)
            yield opened
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # h5py's own errors are of all these types, whatever is broken.
        if sizes := _CUT.search(str(error)):
            problem = f"{source} is cut off: it has {sizes[1]} bytes of {sizes[2]}."
        else:
            problem = f"{source} is damaged or cut off: {describe_error(error)}."
        raise ModelError(problem, "Get the file again.") from error


def check_expansion(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ModelError for an archive that expands to more than a module's may."""
    from nasnet_cli.models.hub.unpack import Limits

    limit = Limits().unpacked_bytes(path.stat().st_size)
    if sum(info.file_size for info in archive.infolist()) > limit:
        raise ModelError(
            f"{path} unpacks to over {limit:,} bytes, more than any model has.",
            "Get it from a source that you trust.",
        )


def _check(opened: Any, source: Path) -> None:
    """Check every link and dataset once, known by its address, so that loops end."""
    from h5py import h5d, h5g, h5o

    seen: set[int] = set()
    waiting = [(opened.id, 0)]
    while waiting:
        group, depth = waiting.pop()
        address = h5o.get_info(group).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MAX_OBJECTS or depth > _MAX_DEPTH:
            raise _refused(source, "holds more groups than any model")
        for name in group:
            _check_link(group, name, source)
            member = h5o.open(group, name)
            if isinstance(member, h5g.GroupID):
                waiting.append((member, depth + 1))
            elif isinstance(member, h5d.DatasetID):  # else it is a named type
                _check_dataset(member, name, source)


def _check_link(group: Any, name: bytes, source: Path) -> None:
    from h5py import h5l

    kind = group.links.get_info(name).type
    if kind == h5l.TYPE_HARD:
        return
    kinds = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
    raise _refused(source, f"has {kinds.get(kind, 'a link of its own kind')} ({_text(name)})")


def _check_dataset(dataset: Any, name: bytes, source: Path) -> None:
    from h5py import h5d

    plan = dataset.get_create_plist()
    layout = plan.get_layout()
    if layout == h5d.VIRTUAL or (layout == h5d.CONTIGUOUS and plan.get_external_count()):
        raise _refused(source, f"keeps {_text(name)} in another file")
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if filters - _FILTERS:
        raise _refused(source, f"packs {_text(name)} in a way that needs a plugin")


def _refused(source: Path, reason: str) -> ModelError:
    return ModelError(
        f"{source} {reason}, which is refused: no Keras file has that.",
        "Save the weights again with Keras.",
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
