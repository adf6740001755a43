"""The network and its training on the backend of KERAS_BACKEND, in a process: OUT.npz [SIZE].

With a size, the golden outputs; without one, the losses of a small run.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from support import fine_tuning, golden


def outputs(size: str) -> dict[str, np.ndarray]:
    """Return logits and features of a published size."""
    from nasnet_cli.network.layers.keras import assign_weights, build_keras_model
    from nasnet_cli.network.spec import SIZES
    from nasnet_cli.network.weights import weight_shapes

    spec = SIZES[size]
    model = build_keras_model(spec)
    assign_weights(model, golden.weights(weight_shapes(spec)))
    found = model.predict_on_batch(golden.noise(golden.facts(size)["batch"], spec.image_size))
    return {"logits": np.asarray(found["Logits"]), "features": np.asarray(found["global_pool"])}


def losses() -> dict[str, np.ndarray]:
    """Return the losses of a run without what is random, which differs from backend to backend."""
    fine_tuning.SPEC = replace(fine_tuning.SPEC, dropout_keep=1.0, path_keep=1.0)
    with tempfile.TemporaryDirectory() as folder:
        run = fine_tuning.tuning(Path(folder) / "run", auxiliary=0.0)
        epochs = run.run(lambda _: None)
        while run.step < 6:
            next(epochs)
        return {"losses": np.array(run.losses[:6])}


if __name__ == "__main__":
    np.savez(sys.argv[1], **(outputs(sys.argv[2]) if sys.argv[2:] else losses()))
