"""A model that is opened and ready: what the commands are a thin layer over."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nasnet_cli.errors import ModelError
from nasnet_cli.labels import Label, check_count, labels_for, read_labels
from nasnet_cli.models.info import OpenedModel, describe
from nasnet_cli.models.listener import SILENT, ProgressListener
from nasnet_cli.models.resolve import resolve
from nasnet_cli.results.records import Classified, Embedded

if TYPE_CHECKING:
    from nasnet_cli.images.load import Limits
    from nasnet_cli.images.preprocess import Preprocessing
    from nasnet_cli.pipeline import Item, Result
    from nasnet_cli.runtime.base import Output, Plan, Precision, Runtime, RuntimeName
    from nasnet_cli.timings import Timings

Context = TypeVar("Context")
StrPath = str | os.PathLike[str]


def load_model(
    model: StrPath | None = None,
    *,
    labels: StrPath | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    runtime: RuntimeName | None = None,
    precision: Precision = "f32",
    allow_unsafe_ops: bool = False,
    listener: ProgressListener = SILENT,
) -> Model:
    """Opens a model: the built-in one, or what model names.

    That is a path (a module's folder, its .tar.gz, a TF-Slim checkpoint, a Keras file, an ONNX,
    TFLite or OpenVINO file), the name of a published module, or an https handle of tensorflow-hub's;
    only for the last two is anything fetched, and kept in the cache.

    labels is a file with the names of the classes, in place of the model's own. preprocessing may
    have resize, crop_fraction and resample, which then count instead of the model's own. runtime is
    openvino or tensorflow; without it, OpenVINO runs what it can read and TensorFlow the rest.
    precision is f32 or bf16 (faster and less exact, where the processor has it).
    allow_unsafe_ops runs modules that could touch files, the network or run code, which are refused
    otherwise: only for those you trust. listener is told what is worth saying to a person.
    Raises NasnetError, in words, for what can't be opened or doesn't fit.
    """
    return Model(
        resolve(model, listener).open(),
        named=None if model is None else os.fspath(model),
        labels_file=labels,
        changes=preprocessing or {},
        runtime_name=runtime,
        precision=precision,
        allow_unsafe_ops=allow_unsafe_ops,
        listener=listener,
    )


@dataclass(frozen=True, eq=False)
class Model:
    """A model with its labels and its preprocessing. load_model makes one."""

    module: OpenedModel
    named: str | None
    labels_file: StrPath | None
    changes: Mapping[str, Any]
    runtime_name: RuntimeName | None
    precision: Precision
    allow_unsafe_ops: bool
    listener: ProgressListener
    _runtimes: dict[Plan, Future[Runtime]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def is_builtin(self) -> bool:
        """Whether it is the model that comes with the package."""
        return self.named is None

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class, in the order of the model's output.

        The labels file that was asked for, else the module's own, else ImageNet's where the count
        of classes is ImageNet's, else "class 0" and so on.
        """
        classes = self.module.classes
        if classes is None:
            raise self._without("classes")
        if self.labels_file is not None:
            labels = read_labels(self.labels_file)
            check_count(labels, classes, self.labels_file)
            return labels
        if self.module.labels is not None:
            return self.module.labels
        return labels_for(classes) or tuple(Label("", f"class {i}") for i in range(classes))

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the model's input."""
        from nasnet_cli.images.preprocess import Preprocessing

        said = self.module.preprocessing
        if "size" not in said:
            raise ModelError(
                f"The module {self.module.path} doesn't say what size of pictures it takes.",
                "Use a module whose input has a fixed size.",
            )
        return Preprocessing.from_dict({**said, **self.changes})

    @property
    def feature_depth(self) -> int:
        """The length of the model's feature vectors. Raises ModelError when it has none."""
        depth = self.module.feature_depth
        if depth is None:
            raise self._without("a feature vector")
        return depth

    def classify(
        self,
        paths: Iterable[StrPath],
        *,
        top: int = 5,
        threshold: float = 0.0,
        logits: bool = False,
        workers: int | None = None,
    ) -> Iterator[Classified]:
        """A record for each input that paths (files, folders, archives) stand for, in order.

        top is how many classes a record has at the most, threshold the least probability in [0, 1].
        With logits each prediction has the model's raw output too. A bad input gives a record with
        an error; NasnetError is raised when the model can't be run.
        """
        from nasnet_cli.images.listing import list_sources
        from nasnet_cli.images.source import SkipCounter
        from nasnet_cli.pipeline import Item
        from nasnet_cli.results.topk import predictions

        sources = list_sources((os.fspath(path) for path in paths), skips=SkipCounter())
        items = (Item(source, None) for source in sources)
        for result in self.results(("logits",), items, top=top, workers=workers):
            path = result.source.path
            if result.outputs is None:
                yield Classified(path, None, result.failure)
                continue
            best = predictions(
                result.outputs["best"], self.labels, threshold=threshold, with_logits=logits
            )
            yield Classified(path, best)

    def embed(
        self, paths: Iterable[StrPath], *, normalize: bool = False, workers: int | None = None
    ) -> Iterator[Embedded]:
        """A record with a feature vector for each input that paths stand for, in order.

        normalize makes each vector of unit length. Errors are as in classify.
        """
        from nasnet_cli.images.listing import list_sources
        from nasnet_cli.images.source import SkipCounter
        from nasnet_cli.pipeline import Item
        from nasnet_cli.results.topk import unit_vector

        sources = list_sources((os.fspath(path) for path in paths), skips=SkipCounter())
        items = (Item(source, None) for source in sources)
        for result in self.results(("features",), items, workers=workers):
            path = result.source.path
            if result.outputs is None:
                yield Embedded(path, None, result.failure)
                continue
            vector = result.outputs["features"]
            # A copy: a view would keep the vectors of a whole burst in memory.
            yield Embedded(path, unit_vector(vector) if normalize else vector.copy())

    def results(
        self,
        outputs: Sequence[Output],
        items: Iterable[Item[Context]],
        *,
        top: int | None = None,
        limits: Limits | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        timings: Timings | None = None,
    ) -> Iterator[Result[Context]]:
        """Yield the model's outputs for each item, in order; several outputs need one decode.

        An item is a source with a context, which its result gives back. With top, results have the
        best classes (results/topk.py) as "best" instead of the logits. Inputs over limits are
        errors. workers threads decode, two more than CPUs if None; batch_size images are decoded
        ahead of the model. timings learns where the time goes.
        """
        from functools import partial

        from nasnet_cli import pipeline
        from nasnet_cli.images.isolated import DecoderPool
        from nasnet_cli.images.load import load
        from nasnet_cli.images.pixel_budget import PixelBudget
        from nasnet_cli.results.topk import with_best
        from nasnet_cli.runtime.base import available_cores
        from nasnet_cli.timings import Timings

        timings = timings or Timings()
        decoders = DecoderPool()
        decode = partial(
            load,
            preprocessing=self.preprocessing,
            limits=limits,
            budget=PixelBudget(),
            decoders=decoders,
            timings=timings,
        )
        return pipeline.run(
            items,
            decode,
            partial(self.runtime, outputs),
            # Two more than there are processors: what waits for a file, or for its turn with
            # Python, leaves none idle.
            workers=workers or available_cores() + 2,
            batch_size=batch_size or pipeline.DEFAULT_BATCH_SIZE,
            reduce=partial(with_best, top=top, is_logits=self.module.output == "logits"),
            stop_decoding=decoders.close,
            timings=timings,
        )

    def runtime(self, outputs: Sequence[Output]) -> Runtime:
        """The model ready to run for these outputs; what was compiled is kept for the next time.

        Raises ModelError when the module could do more than compute and isn't allowed to, and when
        no runtime can read it.
        """
        return self.open_ahead(outputs).result()

    def open_ahead(
        self, outputs: Sequence[Output], *, pictures: int | None = None
    ) -> Future[Runtime]:
        """Begins to open what runtime gives, beside whatever the caller does next.

        pictures is how many there will be, where that is known: threads that would have nothing to
        do only take time to be there.
        """
        plan = self._plan(tuple(outputs))
        if self.runtime_name != "tensorflow":
            # Here and not in the thread: threads that import at the same time hold each other up,
            # and what comes after this import needs no Python.
            import nasnet_cli.runtime.openvino  # noqa: F401
        with self._lock:
            opening = self._runtimes.get(plan)
            if opening is None:
                opening = Future()
                threading.Thread(
                    target=self._open, args=(plan, opening, pictures), name="open", daemon=True
                ).start()
                self._runtimes[plan] = opening
        return opening

    def _open(self, plan: Plan, opening: Future[Runtime], pictures: int | None) -> None:
        try:
            from nasnet_cli.runtime.base import available_cores
            from nasnet_cli.runtime.select import open_runtime

            if not self.allow_unsafe_ops:
                from nasnet_cli.models.safety.gate import check_safe

                check_safe(self.module)
            threads = available_cores()
            if pictures is not None:
                threads = min(threads, max(1, math.ceil(pictures / plan.request_size)))
            note = self.listener.note
            opening.set_result(open_runtime(plan, self.runtime_name, note, threads=threads))
        except BaseException as error:  # whatever it is, it is for who asks for the runtime
            opening.set_exception(error)

    def _plan(self, outputs: tuple[Output, ...]) -> Plan:
        from nasnet_cli.runtime.base import Plan

        tensors = []
        for output in outputs:
            purpose = self.module.classification if output == "logits" else self.module.features
            if purpose is None:
                raise self._without("classes" if output == "logits" else "a feature vector")
            tensors.append((output, purpose.output.tensor))
        return Plan(
            self.module,
            tuple(tensors),
            self.preprocessing.size,
            pixels=self.preprocessing.dtype,
            precision=self.precision,
        )

    def _without(self, what: str) -> ModelError:
        has, can = ("classes", "classify")
        if what == "classes":
            has, can = ("a feature vector", "embed")
        return ModelError(
            f"The model {self.named or 'built-in'} has no {what.removeprefix('a ')}, only {has}.",
            f"Name another with --model, or use it with `nasnet {can}`.",
        )

    def describe(self) -> dict[str, Any]:
        """What identifies the model in a result: its name or folder, digest, classes and format."""
        card = self.module.card
        return {
            "name": card.name if card else _short_name(self.named or ""),
            "location": "built-in" if self.named is None else self.named,
            "digest": self.module.digest,
            "format": self.module.format,
            "classes": self.module.classes,
        }

    def describe_preprocessing(self) -> dict[str, Any]:
        """How pictures become the model's input, in a result: the settings and their digest."""
        return {**self.preprocessing.to_dict(), "digest": self.preprocessing.digest()}

    def head(self) -> dict[str, dict[str, Any]]:
        """Return what a JSON document of results says before them."""
        return {"model": self.describe(), "preprocessing": self.describe_preprocessing()}

    def inspect(self) -> dict[str, Any]:
        """All that is known about the model, as plain data for JSON."""
        return {
            **self.describe(),
            **describe(self.module),
            "preprocessing": {
                **self.module.preprocessing,
                **self.changes,
            },
        }


def _short_name(named: str) -> str:
    return named if "://" in named else Path(named).resolve().name
