"""A small fine-tuning run in a process of its own: WORK [SIGNAL STEP].

The process sends itself the signal when it has done that step. Without one, it ends with the run.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from nasnet_cli.models.formats.base import Network
from nasnet_cli.network.spec import CIFAR, NASNetA
from nasnet_cli.network.weights import weight_shapes

CHECKPOINT_STEPS = 3
SPEC: NASNetA = replace(
    CIFAR, image_size=16, cells_per_stage=1, filters=4, classes=3, dropout_keep=0.5
)


def start_weights(spec: NASNetA) -> dict[str, np.ndarray]:
    """Random weights of a network."""
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        if name.endswith("weights"):
            deviation = np.sqrt(2 / np.prod(shape[:-1]))
            weights[name] = random.normal(0, deviation, shape).astype(np.float32)
        else:
            is_scale = name.endswith(("gamma", "moving_variance"))
            weights[name] = np.full(shape, is_scale, np.float32)
    return weights


def tuning(work: Path, auxiliary: float = 0.4, **settings: float):
    """Three epochs of four steps over 24 images of three colours, with settings of Plan."""
    from nasnet_cli.training.finetune import FineTuning
    from nasnet_cli.training.image_sets import ImageSet
    from nasnet_cli.training.plan import Plan

    random = np.random.default_rng(1)
    classes = np.repeat([0, 1, 2], 8)
    colours = 50 + 150 * np.eye(3)[classes][:, None, None]
    pixels = random.normal(colours, 60, (24, 18, 18, 3)).clip(0, 255).astype(np.uint8)
    network = Network("small", SPEC, start_weights(SPEC), True)
    images, held = ImageSet(pixels, classes), pixels[::4, 1:17, 1:17]
    plan = Plan(
        epochs=3,
        batch=6,
        auxiliary=auxiliary,
        ramps=True,
        checkpoint_steps=CHECKPOINT_STEPS,
        **settings,
    )
    return FineTuning(network, images, held, classes[::4], plan, work)


def main() -> int:
    """Run to the end, or to the signal."""
    run = tuning(Path(sys.argv[1]))

    def report(_: float) -> None:
        if sys.argv[2:] and run.step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.Signals[sys.argv[2]])

    for _ in run.run(report):
        pass
    return 0


if __name__ == "__main__":
    from nasnet_cli.cli import signals

    signals.catch()
    sys.exit(signals.run_to_end(main))
