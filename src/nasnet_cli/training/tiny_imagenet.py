"""Tiny ImageNet from its zips: 200 classes of 64x64 pictures, `<wnid>/<n>.webp`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def read_pictures(
    archives: Sequence[Path], wnids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads all pictures: uint8 [n, 64, 64, 3], class numbers [n] and numbers within a class [n].

    A class's number is the place of its WordNet id in wnids.
    """
    number = {wnid: i for i, wnid in enumerate(wnids)}
    entries = []
    for archive in archives:
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                wnid, _, file = name.partition("/")
                if wnid in number and file:
                    picture = Image.open(io.BytesIO(opened.read(name))).convert("RGB")
                    entries.append((np.asarray(picture), number[wnid], int(Path(file).stem)))
    pictures = np.stack([entry[0] for entry in entries])
    return (
        pictures,
        np.array([entry[1] for entry in entries]),
        np.array([entry[2] for entry in entries]),
    )
