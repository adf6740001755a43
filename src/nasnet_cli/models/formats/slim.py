"""TF-Slim checkpoints of NASNet-A: the published model.ckpt, and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.errors import ModelError, describe_error
from nasnet_cli.labels import labels_for
from nasnet_cli.models.formats.base import Format, Network

if TYPE_CHECKING:
    import numpy as np

_INDEX_END = bytes.fromhex("57fb808b247547db")  # of LevelDB's table
_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_AVERAGE = "/ExponentialMovingAverage"
# Parts of a training run that are not part of the network in inference.
_TRAINING_ONLY = re.compile(r"(global_step$|aux_\d+/)")

# The file in which TensorFlow says which checkpoint is the latest.
_STATE_FILE, _STATE = "checkpoint", b"model_checkpoint_path:"


class Slim(Format):
    """The format of TF-Slim checkpoints, whose path is the prefix of its files' names."""

    name = "slim"
    title = "a TF-Slim checkpoint"
    expected = "a TF-Slim checkpoint (model.ckpt.index beside its data)"
    suffixes = (".index",)

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        if path.is_dir():
            return _only_checkpoint(path)
        if head is not None and head.startswith(_STATE):
            latest = path.with_name(_latest(path.parent) or "")
            return latest if _is_index(_index_of(latest)) else None
        data = _DATA.fullmatch(path.name)
        prefixes = [path.with_suffix("")] if path.suffix == ".index" else [path]
        prefixes += [path.with_name(data[1])] if data else []
        return next((prefix for prefix in prefixes if _is_index(_index_of(prefix))), None)

    def files(self, path: Path) -> dict[str, Path]:
        data = sorted(path.parent.glob(f"{path.name}.data-*"))
        return {part.name: part for part in (_index_of(path), *data)}

    def read_network(self, path: Path) -> Network:
        """Read a checkpoint, whose variables tell the network.

        Moving averages are taken where the checkpoint has them, variable by variable, and the raw
        values elsewhere. Raises ModelError when it is not such a checkpoint, naming variables that
        are missing, extra or misshapen.
        """
        from nasnet_cli.models.savedmodel.bundle import read_bundle
        from nasnet_cli.network.weights import check_weights, network_of, weight_shapes

        bundle = read_bundle(path)
        bundle.check_complete()
        shapes = {name: entry.shape for name, entry in bundle.tensors.items()}
        spec = network_of({_raw(name): shape for name, shape in shapes.items()}, str(path))
        wanted = weight_shapes(spec)
        keys = _choose(shapes, wanted)
        entries: dict[str, Any] = {name: bundle.tensors[key] for name, key in keys.items()}
        check_weights(entries, wanted, str(path))
        weights = _values(path, keys)
        return Network(path.name, spec, weights, True, labels=labels_for(spec.classes))


def _only_checkpoint(folder: Path) -> Path | None:
    """Return the folder's only checkpoint, or the latest one by TensorFlow's state file."""
    prefixes = [path.with_suffix("") for path in sorted(folder.glob("*.index")) if _is_index(path)]
    if len(prefixes) > 1:
        latest = _latest(folder)
        prefixes = [prefix for prefix in prefixes if prefix.name == latest] or prefixes
    if len(prefixes) > 1:
        names = ", ".join(prefix.name for prefix in prefixes[:5])
        raise ModelError(
            f"{folder} has {len(prefixes)} checkpoints: {names}.",
            f"Name one of them, as in {prefixes[-1]}.",
        )
    return prefixes[0] if prefixes else None


def _latest(folder: Path) -> str | None:
    try:
        text = (folder / _STATE_FILE).read_text(errors="replace")
    except OSError:
        return None
    entry = re.search(r'^model_checkpoint_path: "(.*)"', text, re.MULTILINE)
    return Path(entry[1]).name if entry else None


def _index_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_INDEX_END)))
            return file.read() == _INDEX_END
    except OSError:
        return False


def _values(prefix: Path, keys: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Read tensors under other names, given their keys; their checksums are verified."""
    from nasnet_cli.quiet import tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(key) for name, key in keys.items()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise ModelError(
            f"The checkpoint {prefix} is damaged: {describe_error(error)}.",
            "Get it again, all of its files.",
        ) from error


def _choose(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Return the key of each variable, wanted or not, without what only training needs."""
    chosen: dict[str, str] = {}
    for key in sorted(shapes):
        name = _raw(key)
        if _TRAINING_ONLY.match(name) or _is_slot(name, wanted):
            continue
        if name not in chosen or key.endswith(_AVERAGE):
            chosen[name] = key
    return chosen


def _raw(key: str) -> str:
    return key.removesuffix(_AVERAGE)


def _is_slot(name: str, wanted: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell an optimizer's slot of a variable, as in NAME/RMSProp."""
    return name.rpartition("/")[0] in wanted
