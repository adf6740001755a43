"""The settings of nasnet train --full, each default with its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nasnet_cli.models.formats.base import Network
from nasnet_cli.network.spec import SIZES

if TYPE_CHECKING:
    from nasnet_cli.labels import Label

EPOCHS, SCRATCH_EPOCHS = 10, 100


@dataclass(frozen=True)
class Plan:
    """The settings of a run; the defaults are those of fine-tuning.

    SGD with Nesterov's momentum of 0.9, the cosine schedule and the rule for the decay of batch
    normalization (finetune.py) are those of Kornblith, Shlens and Le, "Do better ImageNet models
    transfer better?" (CVPR 2019); 0.01 lies in the middle of the rates that they tried, and 32
    images are what a CPU's memory holds. The rate rises for one epoch first. smoothing is that of
    Szegedy et al. (2016), with which NASNet-A was trained. Dropout, path dropout and the weight
    decay of kernels are the network's own (NASNetA); the clipping of gradients is that of the
    built-in model's training (Settings), the moving averages reach back over a tenth of the run.
    Training ends early when the validation loss has not fallen for patience epochs. auxiliary and
    ramps are those of Settings; the weight of the auxiliary head is the published training's.
    """

    epochs: int = EPOCHS
    batch: int = 32
    rate: float = 0.01
    smoothing: float = 0.1
    patience: int = 5
    auxiliary: float = 0.4
    ramps: bool = False
    checkpoint_steps: int = 50
    seed: int = 0


def scratch_plan(epochs: int = SCRATCH_EPOCHS, seed: int = 0) -> Plan:
    """Return the settings of training from random weights.

    The rate for 32 images, the clipping and path dropout that grows are those of TF-Slim's notes
    for training NASNet-A on CIFAR-10 (nasnet.py); 600 epochs are for 50,000 images there, and fewer
    epochs, like the patience, are this project's.
    """
    return Plan(epochs, rate=0.025, patience=20, ramps=True, seed=seed)


def untrained(size: str, image_size: int | None, labels: tuple[Label, ...]) -> Network:
    """Return a network of a published size without weights, for images of image_size pixels."""
    spec = SIZES[size]
    spec = replace(spec, image_size=image_size or spec.image_size, classes=len(labels))
    return Network(size, spec, {}, True, labels=labels)
