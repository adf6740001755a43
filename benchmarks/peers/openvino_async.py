"""OpenVINO as a careful user writes it: asynchronous requests beside decoding in threads.

A stream for each processor, requests of four images, bytes converted inside the model, and
OpenVINO's own cache of compiled models. With OPENVINO_RATE_SECONDS it runs only the model, on one
batch again and again for that long, and prints images per second.
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

# Its usage events would go to the network, and take a tenth of a second.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import numpy as np
import openvino as ov
from common import arguments, load, write_top5
from openvino.preprocess import PrePostProcessor

BATCH = 4
AHEAD = 64


def compiled(path: Path, size: int) -> ov.CompiledModel:
    core = ov.Core()
    core.set_property({"CACHE_DIR": str(path.parent / "openvino_cache")})
    steps = PrePostProcessor(core.read_model(path))
    steps.input().tensor().set_element_type(ov.Type.u8)
    steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
    model = steps.build()
    model.reshape([BATCH, size, size, 3])
    settings = {"NUM_STREAMS": os.cpu_count(), "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(model, "CPU", settings)


def decoded(paths: list[Path], size: int, pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
    """Yield the decoded images in order, AHEAD of them under way."""
    under_way: deque[Future[np.ndarray]] = deque()
    for path in paths:
        under_way.append(pool.submit(load, path, size))
        if len(under_way) == AHEAD:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def rate(model: ov.CompiledModel, size: int, seconds: float) -> float:
    queue = ov.AsyncInferQueue(model)
    batch = np.zeros((BATCH, size, size, 3), np.uint8)
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        queue.start_async(batch)
        batches += 1
    queue.wait_all()
    return batches * BATCH / (time.perf_counter() - start)


def classify(model: ov.CompiledModel, paths: list[Path], size: int) -> np.ndarray:
    logits = np.empty((len(paths), model.output("logits").shape[1]), np.float32)

    def keep(request: ov.InferRequest, first: int) -> None:
        rows = logits[first : first + BATCH]
        rows[:] = request.get_tensor("logits").data[: len(rows)]

    queue = ov.AsyncInferQueue(model)
    queue.set_callback(keep)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batch = np.zeros((BATCH, size, size, 3), np.uint8)
        for i, image in enumerate(decoded(paths, size, pool)):
            batch[i % BATCH] = image
            if i % BATCH == BATCH - 1 or i == len(paths) - 1:
                queue.start_async(batch, i - i % BATCH)  # it copies the batch
        queue.wait_all()
    return logits


given = arguments()
model = compiled(given.model, given.size)
if seconds := os.environ.get("OPENVINO_RATE_SECONDS"):
    print(rate(model, given.size, float(seconds)))
else:
    paths = sorted(given.photos.iterdir())
    write_top5(given.out, [path.name for path in paths], classify(model, paths, given.size))
