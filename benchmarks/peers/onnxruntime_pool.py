"""ONNX Runtime with its own settings, on batches of 32 that a pool of threads decodes."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from common import arguments, load, write_top5

BATCH = 32

given = arguments()
session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
paths = sorted(given.photos.iterdir())
batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
logits = []
with ThreadPoolExecutor(os.cpu_count()) as pool:

    def submit(batch: list[Path]) -> list[Future[np.ndarray]]:
        return [pool.submit(load, path, given.size) for path in batch]

    following = submit(batches[0])
    for i in range(len(batches)):
        current, following = following, submit(batches[i + 1]) if i + 1 < len(batches) else []
        images = np.stack([image.result() for image in current]).astype(np.float32) / 255
        logits.append(session.run(["logits"], {"images": images})[0])
write_top5(given.out, [path.name for path in paths], np.concatenate(logits))
