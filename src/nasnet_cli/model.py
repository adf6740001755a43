"""The library behind the commands: a model that classifies and embeds images."""

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
from nasnet_cli.labels import Label, check_count, digest, labels_for, read_labels
from nasnet_cli.models.info import OpenedModel, describe
from nasnet_cli.models.listener import SILENT, ProgressListener
from nasnet_cli.models.resolve import BUILTIN, resolve
from nasnet_cli.results.records import Classified, Embedded

if TYPE_CHECKING:
    from nasnet_cli.images.given import Given
    from nasnet_cli.images.load import Limits
    from nasnet_cli.images.preprocess import Preprocessing
    from nasnet_cli.pipeline import Item, Result
    from nasnet_cli.results.everyday import EverydayLabels
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
    """Open a model: the built-in one by default.

    model is a path (a module's folder, its .tar.gz, a TF-Slim checkpoint, a Keras file, an ONNX,
    TFLite or OpenVINO file), the name of a published model, "builtin", or an https handle of
    tensorflow-hub; the default of nasnet models has no effect here. Only names and handles are
    downloaded, and kept in the cache.

    labels is a file with the names of the classes, in place of the model's own. preprocessing may
    have resize, crop_fraction, resample, input_range and channels, which override the model's own.
    runtime is openvino or tensorflow; by default, OpenVINO runs what it can read and TensorFlow the
    rest. precision is f32 or bf16 (faster on CPUs that support it, and slightly less accurate).
    allow_unsafe_ops runs modules that could touch files, the network or run code, which are refused
    by default: only for modules you trust. listener receives notes and progress. Raises NasnetError
    when the model cannot be opened or the settings don't fit it.
    """
    return Model(
        resolve(model, listener).open(),
        named=None if model in (None, BUILTIN) else os.fspath(model),
        labels_file=labels,
        changes=preprocessing or {},
        runtime_name=runtime,
        precision=precision,
        allow_unsafe_ops=allow_unsafe_ops,
        listener=listener,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model with its labels and its preprocessing, made by load_model."""

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

    def __repr__(self) -> str:
        name = "built-in" if self.named is None else self.named
        height, width = self.module.image_size or ("?", "?")
        classes = f"{self.module.classes} classes, " if self.module.classes is not None else ""
        return f"<Model {name}: {self.module.format}, {classes}{height}x{width}>"

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The label of each class, in the order of the model's output.

        From the labels file that was given, else the model, else ImageNet for a model with as many
        classes, else "class 0" and so on.
        """
        classes = self.module.classes
        if classes is None:
            raise self._without("logits")
        if self.labels_file is not None:
            labels = read_labels(self.labels_file)
            check_count(labels, classes, self.labels_file)
            return labels
        if self.module.labels is not None:
            return self.module.labels
        return labels_for(classes) or tuple(Label("", f"class {i}") for i in range(classes))

    @cached_property
    def everyday(self) -> EverydayLabels:
        """The everyday labels of the model's classes.

        There are none where no label has a WordNet id, and for independent probabilities.
        """
        from nasnet_cli.results.everyday import EverydayLabels

        labels = self.labels
        if self.module.has_independent_outputs:
            # Independent probabilities have no sum that means anything.
            labels = tuple(Label("", label.name) for label in labels)
        return EverydayLabels(labels)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The conversion of images to the model's input."""
        from nasnet_cli.images.preprocess import Preprocessing

        settings = self.module.preprocessing
        if "size" not in settings:
            raise ModelError(
                f"The model {self.module.path} doesn't say its image size.",
                "Use a model whose input has a fixed size.",
            )
        if assumed := self.module.check_values(self.changes):
            self.listener.note(assumed)
        return Preprocessing.from_dict({**settings, **self.changes})

    @property
    def feature_depth(self) -> int:
        """The length of the model's feature vectors. Raises ModelError when it has none."""
        depth = self.module.feature_depth
        if depth is None:
            raise self._without("features")
        return depth

    def classify(
        self,
        images: Given | Iterable[Given],
        *,
        top: int = 5,
        threshold: float = 0.0,
        logits: bool = False,
        sure: float = 0.5,
        workers: int | None = None,
    ) -> Iterator[Classified]:
        """Return an iterator of records, one for each image, in order.

        images is one of these, or several in any mix: a path (a file, folder, archive or URL), a
        PIL image, an array [height, width, 3] of uint8 in RGB. Images in memory are named `<image
        0>`, `<image 1>` by their place, and shown upright by their EXIF data like files.

        A record has up to top classes with at least the probability threshold, in [0, 1], and an
        everyday label where one has at least the probability sure. With logits, each prediction has
        the model's raw output too. A bad input gives a record with an error. Raises NasnetError
        when the model cannot be run, TypeError or ValueError for what is neither path nor image.
        """
        from nasnet_cli.results.topk import predictions

        def record(result: Result[None]) -> Classified:
            path, outputs = result.source.path, result.outputs
            if outputs is None:
                return Classified(path, None, result.failure)
            best = predictions(
                outputs["best"], self.labels, threshold=threshold, with_logits=logits
            )
            return Classified(path, best, sure=self.everyday.record(outputs["sure"]))

        items = self._items(images)
        return map(record, self.results(("logits",), items, top=top, sure=sure, workers=workers))

    def embed(
        self,
        images: Given | Iterable[Given],
        *,
        normalize: bool = False,
        workers: int | None = None,
    ) -> Iterator[Embedded]:
        """Return an iterator of records with a feature vector for each image, in order.

        normalize scales each vector to unit length. images and errors are as in classify.
        """
        from nasnet_cli.results.topk import unit_vector

        def record(result: Result[None]) -> Embedded:
            path, outputs = result.source.path, result.outputs
            if outputs is None:
                return Embedded(path, None, result.failure)
            vector = outputs["features"]
            # A copy: a view would keep the vectors of a whole burst in memory.
            return Embedded(path, unit_vector(vector) if normalize else vector.copy())

        return map(record, self.results(("features",), self._items(images), workers=workers))

    def _items(self, images: Given | Iterable[Given]) -> Iterator[Item[None]]:
        from nasnet_cli.images.given import given_sources
        from nasnet_cli.pipeline import Item

        return (Item(source, None) for source in given_sources(images, self.preprocessing))

    def results(
        self,
        outputs: Sequence[Output],
        items: Iterable[Item[Context]],
        *,
        top: int | None = None,
        sure: float = 0.5,
        limits: Limits | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        timings: Timings | None = None,
    ) -> Iterator[Result[Context]]:
        """Yield the model's outputs for each item, in order; several outputs need one decode.

        An item is a source with a context, which its result gives back. With top, results have the
        best classes (results/topk.py) as "best" and the everyday label of at least the probability
        sure (results/everyday.py) as "sure" instead of the logits. Inputs over limits are
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
            # Two more than there are CPU cores: threads that wait for a file, or for Python's lock,
            # leave no core idle.
            workers=workers or available_cores() + 2,
            batch_size=batch_size or pipeline.DEFAULT_BATCH_SIZE,
            reduce=partial(
                with_best,
                top=top,
                is_logits=self.module.output == "logits",
                activation=self.module.activation,
                everyday=self.everyday if "logits" in outputs and top is not None else None,
                sure=sure,
            ),
            stop_decoding=decoders.close,
            timings=timings,
        )

    def runtime(self, outputs: Sequence[Output]) -> Runtime:
        """Return the runtime that is ready for these outputs; the compiled model is cached.

        Raises ModelError when the model has unsafe operations that were not allowed, and when no
        runtime can read it.
        """
        return self.open_ahead(outputs).result()

    def open_ahead(
        self, outputs: Sequence[Output], *, images: int | None = None
    ) -> Future[Runtime]:
        """Start to open the runtime in a thread.

        images is the number of images, if known: threads that would stay idle only take time to
        start.
        """
        plan = self._plan(tuple(outputs))
        if self.runtime_name != "tensorflow":
            # Not in the thread: parallel imports wait for each other, and what follows this import
            # doesn't need Python's lock.
            import nasnet_cli.runtime.openvino  # noqa: F401
        with self._lock:
            opening = self._runtimes.get(plan)
            if opening is None:
                opening = Future()
                threading.Thread(
                    target=self._open, args=(plan, opening, images), name="open", daemon=True
                ).start()
                self._runtimes[plan] = opening
        return opening

    def _open(self, plan: Plan, opening: Future[Runtime], images: int | None) -> None:
        try:
            from nasnet_cli.runtime.base import available_cores
            from nasnet_cli.runtime.select import open_runtime

            if self.allow_unsafe_ops:
                self.module.check_constants()
                self.module.check_whole()
            else:
                from nasnet_cli.models.safety.gate import check_safe

                check_safe(self.module)
            threads = available_cores()
            if images is not None:
                threads = min(threads, max(1, math.ceil(images / plan.request_size)))
            note = self.listener.note
            opening.set_result(open_runtime(plan, self.runtime_name, note, threads=threads))
        except BaseException as error:  # raised where the runtime is used
            opening.set_exception(error)

    def _plan(self, outputs: tuple[Output, ...]) -> Plan:
        from nasnet_cli.runtime.base import Plan

        tensors = []
        for output in outputs:
            purpose = self.module.classification if output == "logits" else self.module.features
            if purpose is None:
                raise self._without(output)
            if output == "logits":
                self.module.check_head()
            tensors.append((output, purpose.output.tensor))
        return Plan(
            self.module,
            tuple(tensors),
            self.preprocessing.size,
            pixels=self.preprocessing.dtype,
            precision=self.precision,
            input_range=self.preprocessing.input_range,
            channels=self.preprocessing.channels,
            fixed_request=self.module.batch,
        )

    def _without(self, output: Output) -> ModelError:
        """Return the error for an output that the model lacks."""
        lacks, has, command = ("classes", "a feature vector", "embed")
        if output == "features":
            lacks, has, command = ("feature vector", "classes", "classify")
        return ModelError(
            f"The model {self.named or 'built-in'} has no {lacks}, only {has}.",
            f"Name another with --model, or use it with `nasnet {command}`.",
        )

    def describe(self) -> dict[str, Any]:
        """Return what identifies the model in a result: name, location, digest, format, classes."""
        card = self.module.card
        fields = {
            "name": card.name if card else _short_name(self.named or ""),
            "location": "built-in" if self.named is None else self.named,
            "digest": self.module.digest,
            "format": self.module.format,
            "classes": self.module.classes,
        }
        # Where the labels are from, unless they are the model's own.
        if self.labels_file is None and self.module.labels_from not in (None, "the model"):
            fields |= {"labels": self.module.labels_from, "labels_digest": digest(self.labels)}
        return fields

    def describe_preprocessing(self) -> dict[str, Any]:
        """Return the preprocessing in a result: the settings and their digest."""
        return {**self.preprocessing.to_dict(), "digest": self.preprocessing.digest()}

    def head(self) -> dict[str, dict[str, Any]]:
        """Return what a JSON document of results says before them."""
        return {"model": self.describe(), "preprocessing": self.describe_preprocessing()}

    def inspect(self) -> dict[str, Any]:
        """Return everything known about the model, as plain data for JSON."""
        return {
            **self.describe(),
            **describe(self.module),
            "everyday_labels": self._describe_everyday(),
            "preprocessing": {**self.module.preprocessing, **self.changes},
        }

    def _describe_everyday(self) -> dict[str, Any] | None:
        """Describe whether there are everyday labels; None without classes."""
        if self.module.classes is None:
            return None
        from nasnet_cli.wordnet import is_wnid, load_hierarchy

        # As everyday.is_available says, without NumPy.
        has_ids = any(is_wnid(label.wnid) for label in self.labels)
        available = has_ids and not self.module.has_independent_outputs
        return {"available": available, "unknown_ids": load_hierarchy().unknown_ids(self.labels)}


def _short_name(named: str) -> str:
    return named if "://" in named else Path(named).resolve().name
