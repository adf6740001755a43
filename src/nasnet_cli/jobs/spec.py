"""Specification of a job: everything that its results depend on, beside the images; how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nasnet_cli.models.listener import SILENT, ProgressListener

if TYPE_CHECKING:
    from nasnet_cli.images.load import Limits
    from nasnet_cli.jobs.inputs import Check
    from nasnet_cli.model import Model
    from nasnet_cli.results.npy import VectorType
    from nasnet_cli.runtime.base import Output, Precision, RuntimeName
    from nasnet_cli.timings import Timings

Kind = Literal["labels", "vectors"]

_OUTPUTS: dict[Kind, Output] = {"labels": "logits", "vectors": "features"}
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "labels": ("top", "threshold", "logits", "sure"),
    "vectors": ("normalize", "dtype"),
}


class JobSpec(NamedTuple):
    """The specification of a job, which also goes to other processes and into files.

    results are the kinds of results. model, labels, runtime, precision and allow_unsafe_ops are
    load_model's, preprocessing its changes. top, threshold, logits and sure are classify's,
    normalize and dtype embed's; max_pixels and max_bytes limit the inputs.
    """

    results: tuple[Kind, ...]
    model: str | None = None
    labels: str | None = None
    preprocessing: Mapping[str, Any] = {}
    runtime: RuntimeName | None = None
    precision: Precision = "f32"
    allow_unsafe_ops: bool = False
    top: int = 5
    threshold: float = 0.0
    logits: bool = False
    sure: float = 0.5
    normalize: bool = False
    dtype: VectorType = "float32"
    # As in images.load.Limits, which a command's help must not import.
    max_pixels: int = 200_000_000
    max_bytes: int = 1 << 30

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON has it, for readers: nothing is ever run by it."""
        content = {**self._asdict(), "results": list(self.results)}
        del content["allow_unsafe_ops"]
        return content

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The model's outputs that the job needs."""
        return tuple(_OUTPUTS[kind] for kind in self.results)

    @property
    def limits(self) -> Limits:
        """The limits above which inputs are too large."""
        from nasnet_cli.images.load import Limits

        return Limits(self.max_pixels, self.max_bytes)

    def open_model(self, listener: ProgressListener = SILENT) -> Model:
        """Open the model. Raises as load_model does."""
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
        """Return all that must be equal for two runs to write the same bytes: OUT.meta.json."""
        from nasnet_cli import __version__

        runtime = model.runtime(self.outputs)
        names = [name for kind in self.results for name in _OPTIONS[kind]]
        options = {name: getattr(self, name) for name in [*names, "max_pixels", "max_bytes"]}
        if self.labels is not None:
            from nasnet_cli.labels import digest

            options["labels"] = digest(model.labels)
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


class RunOptions(NamedTuple):
    """Settings for running a job, on which its results do not depend.

    workers threads decode, two more than CPUs if None; batch_size images are decoded ahead of the
    model. timings learns where the time goes. resume continues an unfinished run and brings a
    finished output up to date; overwrite replaces outputs; check says how a changed input is
    detected. accept_versions keeps rows of other versions; prune drops the rows of a named path
    that is missing or empty. with_meta writes OUT.meta.json beside outputs that cannot hold it, and
    OUT.inputs.
    """

    workers: int | None = None
    batch_size: int | None = None
    timings: Timings | None = None
    resume: bool = False
    overwrite: bool = False
    check: Check = "stat"
    accept_versions: bool = False
    prune: bool = False
    with_meta: bool = True
