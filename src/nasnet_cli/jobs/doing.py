"""From a manifest's work to a model that does shards: what every process of a job begins with."""

from __future__ import annotations
