"""What a job does with each picture: all that its results depend on, beside the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nasnet_cli.images.source import MAX_BYTES
from nasnet_cli.models.listener import SILENT, ProgressListener

if TYPE_CHECKING:
    from nasnet_cli.images.load import Limits
    from nasnet_cli.labels import Label
    from nasnet_cli.model import Model
    from nasnet_cli.runtime.base import Output, PrecisionName, RuntimeName

Kind = Literal["labels", "vectors"]

_OUTPUTS: dict[Kind, Output] = {"labels": "logits", "vectors": "features"}
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "labels": ("top", "threshold", "logits"),
    "vectors": ("normalize", "dtype"),
}

_NAMES = {("model", "name"), ("model", "location")}


@dataclass(frozen=True)
class JobSpec:
    """A job's description, which also goes to other processes and into files.

    results are the kinds of rows that are made. model, labels, runtime, precision and
    allow_unsafe_ops are load_model's, preprocessing its changes. top, threshold and logits are
    classify's, normalize and dtype embed's; max_pixels and max_bytes say which inputs are too
    large.
    """

    results: tuple[Kind, ...]
    model: str | None = None
    labels: str | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    runtime: RuntimeName | None = None
    precision: PrecisionName = "auto"
    allow_unsafe_ops: bool = False
    top: int = 5
    threshold: float = 0.0
    logits: bool = False
    normalize: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    max_pixels: int = 200_000_000
    max_bytes: int = MAX_BYTES

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON has it."""
        return {**asdict(self), "results": list(self.results)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobSpec:
        """The inverse of to_dict."""
        return cls(**{**data, "results": tuple(data["results"])})

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the model must give for it."""
        return tuple(_OUTPUTS[kind] for kind in self.results)

    @property
    def limits(self) -> Limits:
        """Above which inputs are too large."""
        from nasnet_cli.images.load import Limits

        return Limits(self.max_pixels, self.max_bytes)

    def open_model(self, listener: ProgressListener = SILENT) -> Model:
        """The model that it names. Raises as load_model does."""
        from nasnet_cli.model import load_model

        return load_model(
            self.model,
            labels=self.labels,
            preprocessing=self.preprocessing,
            runtime=self.runtime,
            precision=self.precision,
            allow_unsafe_ops=self.allow_unsafe_ops,
            listener=listener,
        )

    def identity(self, model: Model) -> dict[str, dict[str, Any]]:
        """All that must be the same for two runs to write the same bytes, as in OUT.meta.json."""
        from nasnet_cli import __version__

        runtime = model.runtime(self.outputs)
        names = [name for kind in self.results for name in _OPTIONS[kind]]
        options = {name: getattr(self, name) for name in [*names, "max_pixels", "max_bytes"]}
        if self.labels is not None:
            options["labels"] = _digest(model.labels)
        return {
            "tool": {"name": "nasnet", "version": __version__},
            "runtime": {
                "name": runtime.name,
                "version": runtime.version,
                "precision": runtime.precision,
                "instruction_set": runtime.instruction_set,
            },
            "model": model.describe(),
            "preprocessing": model.describe_preprocessing(),
            "options": options,
        }


def _digest(labels: tuple[Label, ...]) -> str:
    text = "\n".join(f"{label.wnid}\t{label.name}" for label in labels)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def differences(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """In words, what two identities don't have in common.

    A model is known by its digest: the same one may be named in several ways.
    """
    for section in dict.fromkeys([*old, *new]):
        before, now = old.get(section, {}), new.get(section, {})
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name) and (section, name) not in _NAMES:
                yield f"{section} {name} was {before.get(name)!r} and is {now.get(name)!r}"
