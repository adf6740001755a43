"""The interface of a model format, and what its methods take and give.

A format is one file in this folder and one entry in table.py. Nothing heavy is imported here or at
the top of a format's file: a method imports what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nasnet_cli.errors import ModelError
from nasnet_cli.models.formats.names import Precision

if TYPE_CHECKING:
    import numpy as np

    from nasnet_cli.labels import Label
    from nasnet_cli.models.card import Activation, Card
    from nasnet_cli.models.formats.saved_model import OpenedSavedModel
    from nasnet_cli.models.info import OpenedModel
    from nasnet_cli.network.spec import NASNetA

Outputs = Mapping[str, "np.ndarray"]
"""Arrays [images, length] float32 by "logits" and "features"."""

HEAD_BYTES = 4096
"""The number of a file's first bytes that Format.detect is given."""


@dataclass(frozen=True, eq=False)
class Network:
    """A NASNet-A that was read from a model.

    weights are float32 by their TF-Slim names, without the classification layer's when
    classification is false. labels are in the order of the classes, None where neither the source
    nor ImageNet has any. module is the source itself where TensorFlow can run it as it is.
    activation makes probabilities of the logits; input_range is that of the images where it is not
    the usual one (values.py).
    """

    name: str
    spec: NASNetA
    weights: dict[str, np.ndarray]
    classification: bool
    card: Card | None = None
    labels: tuple[Label, ...] | None = None
    module: OpenedSavedModel | None = None
    activation: Activation = "softmax"
    input_range: str | None = None


class Format:
    """A model format. Each method is optional, as not every format can do everything.

    title is a noun phrase for sentences; expected describes the files in the list of what can be
    read; suffixes are the usual ends of their names. is_runnable says that a runtime reads the
    format as it is, so that open is implemented; is_writable, that write and run are.
    """

    name: str
    title: str
    expected: str
    suffixes: tuple[str, ...] = ()
    is_runnable: bool = False
    is_writable: bool = False

    suffix: str = ""
    """The suffix that a written file's name must have; "" for a folder."""

    companions: tuple[str, ...] = ()
    """Further files that are written, with STEM and NAME for the parts of the file's name."""

    precisions: tuple[Precision, ...] = ("f32",)

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        """Return the path to read when path is in this format, else None.

        head is the first HEAD_BYTES bytes of a file, None when path is not a file. Raises
        ModelError when a folder holds several models, and OSError when it cannot be read.
        """
        raise NotImplementedError

    def files(self, path: Path) -> dict[str, Path]:
        """Return the files that the model at path consists of, by their role ("" is path's own)."""
        return {"": path}

    def open(self, path: Path) -> OpenedModel:
        """Open a model to describe and run it. Raises ModelError when it cannot be read."""
        raise NotImplementedError

    def read_network(self, path: Path) -> Network:
        """Read the network with its weights. Raises ModelError when it is not a NASNet-A."""
        raise ModelError(
            f"{path} cannot be exported: its weights are merged with its batch normalization.",
            "Name the model that it was made from.",
        )

    def check_packages(self) -> None:
        """Raise ModelError, with what to install, when a package that write or run needs is missing."""

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write a network to path, with its card and labels (card.card_texts)."""
        raise NotImplementedError

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a written model by the format's own runtime.

        images are float32 [n, size, size, 3] in [0, 1].
        """
        raise NotImplementedError

    def record_check(self, path: Path, result: dict[str, Any]) -> None:
        """Keep the result of the export check where the format has a place for it."""

    def written_names(self, name: str) -> list[str]:
        """Return the names of the files that write makes; the one that makes it complete is last."""
        stem = name.removesuffix(self.suffix) if self.suffix else name
        return [c.replace("STEM", stem).replace("NAME", name) for c in self.companions] + [name]


class DetectedModel(NamedTuple):
    """A model that was recognized: its format, and the path that the format reads.

    The path is the file or the folder; of a TF-Slim checkpoint, its prefix.
    """

    format: Format
    path: Path

    def open(self) -> OpenedModel:
        """Open the model to describe and run it. Raises ModelError when it cannot be read."""
        return self.format.open(self.path)
