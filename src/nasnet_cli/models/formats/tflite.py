"""TFLite files, with the card and the labels in files beside them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_cli.labels import read_labels
from nasnet_cli.models.card import CARD, LABELS, read_card_file
from nasnet_cli.models.formats.base import Format, Network, Outputs, Precision
from nasnet_cli.models.formats.openvino_file import (
    OpenedFile,
    UnknownOutputsError,
    open_file,
    read_graph,
)

if TYPE_CHECKING:
    import numpy as np

# TFLite's own tools for metadata are not maintained.
_CARD_SUFFIX, _LABELS_SUFFIX = ".nasnet.json", ".labels.tsv"


class TFLite(Format):
    """The format of .tflite files."""

    name = "tflite"
    title = "a TFLite file"
    expected = "a .tflite"
    suffixes = (".tflite",)
    is_runnable = True
    is_writable = True
    suffix = ".tflite"
    companions = (f"NAME{_LABELS_SUFFIX}", f"NAME{_CARD_SUFFIX}")
    precisions = ("f32", "f16")

    def detect(self, path: Path, head: bytes | None) -> Path | None:
        return path if head is not None and head[4:8] == b"TFL3" else None

    def files(self, path: Path) -> dict[str, Path]:
        beside = {suffix: _beside(path, suffix) for suffix in (_CARD_SUFFIX, _LABELS_SUFFIX)}
        return {"": path, **beside}

    def open(self, path: Path) -> OpenedFile:
        graph = self._read_graph(path)
        card = read_card_file(_beside(path, _CARD_SUFFIX))
        list_file = _beside(path, _LABELS_SUFFIX)
        labels = read_labels(list_file) if list_file.exists() else None
        try:
            return open_file(self, path, graph, card, labels)
        except UnknownOutputsError as error:
            if card is None:
                beside = path.name + _CARD_SUFFIX
                error.remedy = f"If nasnet export wrote it, put its {beside} beside it again."
            raise

    def _read_graph(self, path: Path) -> Any:
        if_incomplete = (
            "Convert it again without custom operations and those of TensorFlow (SELECT_TF_OPS), or "
            "name the model that it was made from."
        )
        if path.suffix == ".tflite":
            return read_graph(self, path, path, if_incomplete=if_incomplete)
        # OpenVINO recognizes TFLite by the file's name alone.
        with tempfile.TemporaryDirectory(prefix="nasnet-") as folder:
            link = Path(folder, "model.tflite")
            link.symlink_to(path.absolute())
            return read_graph(self, path, link, if_incomplete=if_incomplete)

    def write(
        self, path: Path, network: Network, texts: Mapping[str, str], precision: Precision
    ) -> None:
        """Write a file with the signature serving_default: images [batch, size, size, 3] to logits
        [batch, classes] and features [batch, depth]. f16 keeps the weights as float16."""
        from nasnet_cli.network.layers.function import make_variables, network_function
        from nasnet_cli.quiet import silence, tf

        variables = make_variables(network.weights)
        module = tf.Module()
        module.kept = list(variables.values())
        function: Any = network_function(
            network.spec, variables, classification=network.classification
        )
        with silence():
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [function.get_concrete_function()], module
            )
            if precision == "f16":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            content: bytes = converter.convert()
        path.write_bytes(content)
        for name, suffix in ((CARD, _CARD_SUFFIX), (LABELS, _LABELS_SUFFIX)):
            if text := texts.get(name.as_posix()):
                _beside(path, suffix).write_text(text, encoding="utf-8")

    def run(self, path: Path, images: np.ndarray, *, classification: bool) -> Outputs:
        """Run a file by TensorFlow's interpreter."""
        import numpy as np

        from nasnet_cli.quiet import silence, tf

        with silence():
            interpreter = tf.lite.Interpreter(model_path=str(path))
            runner: Any = interpreter.get_signature_runner("serving_default")
            return {name: np.array(value) for name, value in runner(images=images).items()}

    def record_check(self, path: Path, result: dict[str, Any]) -> None:
        beside = _beside(path, _CARD_SUFFIX)
        card = {**json.loads(beside.read_text(encoding="utf-8")), "export": result}
        text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
        beside.write_text(text, encoding="utf-8")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
