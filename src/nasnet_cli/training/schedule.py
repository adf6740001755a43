"""The course of a training run: rates, image sizes and batches by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nasnet_cli.training.augment import Augmentation
from nasnet_cli.training.batches import Part


@dataclass(frozen=True)
class Phase:
    """Steps at one image size, in pixels, up to the step last (exclusive)."""

    last: int
    size: int
    parts: tuple[Part, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Course:
    """Phases in order with the rate of each step.

    The rate rises from 0 to peak_rate in warmup_steps and stays there. With decay_from, the run is
    a cooldown: from that step on the rate falls to 0 at the last phase's end, in a straight line,
    or if is_cosine by half a period of the cosine (Loshchilov and Hutter, 2017).
    """

    phases: tuple[Phase, ...]
    peak_rate: float
    warmup_steps: int = 0
    decay_from: int | None = None
    is_cosine: bool = False

    @property
    def last(self) -> int:
        """The step at which the course ends (exclusive)."""
        return self.phases[-1].last

    def phase(self, step: int) -> Phase:
        """Return the phase of a step; the last one of all steps from the end on."""
        return next((phase for phase in self.phases if step < phase.last), self.phases[-1])

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay_from is None or step < self.decay_from:
            return self.peak_rate * warm
        left = (self.last - step) / (self.last - self.decay_from)
        return self.peak_rate * ((1 - math.cos(math.pi * left)) / 2 if self.is_cosine else left)

    def cooldown(self, step: int, share: float, sizes: Sequence[int]) -> Course:
        """Return the course whose rate falls to 0 from a step on, in a share of the steps so far.

        sizes are the image sizes of its phases, which are equally long.
        """
        count, now = math.ceil(step * share), self.phase(step)
        ends = [step + round(count * (i + 1) / len(sizes)) for i in range(len(sizes))]
        phases = tuple(
            replace(now, last=end, size=size) for end, size in zip(ends, sizes, strict=True)
        )
        return Course(phases, self.peak_rate, decay_from=step)
