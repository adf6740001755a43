"""The division of a manifest: segments of images that were listed together, slices for shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """The division into shards: by their number, or by the number of images in each."""

    shards: int | None = None
    shard_size: int | None = None

    def sizes(self, images: int) -> Iterator[int]:
        """Yield the number of images in each shard, in order; they differ by one at most for a
        number of shards."""
        if self.shards is None:
            assert self.shard_size is not None
            for first in range(0, images, self.shard_size):
                yield min(self.shard_size, images - first)
            return
        shards = min(self.shards, images)
        for i in range(shards):
            yield images // shards + (i < images % shards)

    def for_more(self, images: int) -> Cut:
        """Return the cut of images that are added to images: shards of about the same size."""
        if self.shards is None:
            return self
        return Cut(shard_size=max(1, -(-images // self.shards)))


@dataclass(frozen=True)
class Slice:
    """One shard's images: their numbers begin at first; offset and bytes are in its segment."""

    shard: int
    first: int
    images: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """Images that were listed together. revision is part of the names of its files.

    The fields, pictures too, have the names that manifest.json gives them.
    """

    number: int
    revision: int
    first_shard: int
    shards: int
    first: int
    pictures: int
    sha256: str  # of the file of slices, which has those of the images

    @property
    def images_name(self) -> str:
        return f"pictures-{self.number}.r{self.revision}.jsonl"

    @property
    def slices_name(self) -> str:
        return f"slices-{self.number}.r{self.revision}.txt"
