"""Training's batches: each a function of the seed and the step, whatever came before."""

from __future__ import annotations

import numpy as np
import pytest

from nasnet_cli.network.spec import NASNetA, Stem

NETWORK = NASNetA(
    image_size=16,
    cells_per_stage=1,
    filters=4,
    classes=3,
    stem=Stem("conv0", "conv0_bn", 4, stride=1, padding="same", cells=0),
)


@pytest.fixture(scope="module")
def batches():
    """Makes the batches of steps first to last - 1 of 96 pictures, 16 in each."""
    from nasnet_cli.training.loop import Phase, Recipe, TrainingBatches

    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (96, 16, 16, 3), np.uint8)
    targets = np.arange(96) % 3
    recipe = Recipe(NETWORK, phases=(Phase(8, 4),), batch_size=16, label_smoothing=0.3)
    return lambda first, last: TrainingBatches(
        recipe, pictures, targets, recipe.phases[0], first, last
    )


def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(batches):
    whole, rest = batches(0, 12), batches(7, 12)
    assert (len(whole), len(rest)) == (12, 5)
    for step in range(7, 12):
        for one, other in zip(whole[step], rest[step - 7], strict=True):
            np.testing.assert_array_equal(one, other)


def test_batches_are_pictures_and_smoothed_labels(batches):
    images, labels = batches(0, 1)[0]
    assert images.shape == (16, 8, 8, 3)
    assert images.dtype == labels.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(np.sort(labels, axis=1), [[0.1, 0.1, 0.8]] * 16, rtol=1e-6)


def test_an_epoch_has_each_picture_once_and_the_next_another_order(batches):
    epochs = [[batches(0, 12)[step][1] for step in range(start, start + 6)] for start in (0, 6)]
    counts = [np.concatenate(epoch).round().sum(axis=0).tolist() for epoch in epochs]
    assert counts == [[32, 32, 32]] * 2
    assert not np.array_equal(epochs[0], epochs[1])
