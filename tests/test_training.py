"""Training: targets, sampling, batches, and a loop that stops and goes on."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import KINDS, make_patterns

from nasnet_cli.errors import OutputError
from nasnet_cli.network.spec import CIFAR, NASNetA, Stem
from nasnet_cli.training.augment import Augmentation, augment, crop, random_box
from nasnet_cli.training.batches import Batches, Part, mix_up, prefetch
from nasnet_cli.training.calibration import (
    calibration_error,
    class_weights,
    fit_temperature,
    probabilities,
)
from nasnet_cli.training.checkpoint import Checkpoint, load_checkpoint
from nasnet_cli.training.image_sets import ImageSet, Teacher, held_out
from nasnet_cli.training.progress import Progress, ProgressFolder
from nasnet_cli.training.sampling import Sampler, sampling_weights
from nasnet_cli.training.schedule import Course, Phase
from nasnet_cli.training.targets import blend, label_probabilities, teacher_probabilities

CLASSES = 6
NETWORK = NASNetA(
    image_size=16,
    cells_per_stage=1,
    filters=4,
    classes=CLASSES,
    stem=Stem("conv0", "conv0_bn", 4, stride=2, padding="same", cells=0),
    dropout_keep=1.0,
    bn_decay=0.9,
)
PARTS = (
    Part("taught", 6, crop="teacher", label_weight=0.5, smoothing=0.0),
    Part("labelled", 4, mixup=0.2),
)
COURSE = Course((Phase(1, 8, PARTS), Phase(3, 16, PARTS)), peak_rate=0.05, warmup_steps=2)


def images(count: int, side: int, *, labelled: bool, crops: int) -> ImageSet:
    """Return images whose colour tells their class; without labels every third has one still."""
    random = np.random.default_rng([count, side])
    classes = np.arange(count) % CLASSES
    pixels = random.integers(0, 60, (count, side, side, 3)) + 30 * classes[:, None, None, None]
    best = np.stack([classes, (classes + 1) % CLASSES], axis=1)[:, None].repeat(crops, axis=1)
    roots = np.array([[210, 120]])[:, None].repeat(count, axis=0).repeat(crops, axis=1)
    boxes = np.array([[20, 20, 235, 235], [0, 0, 128, 160]])[None, :crops].repeat(count, axis=0)
    labels = classes if labelled else np.where(np.arange(count) % 3, -1, classes)
    return ImageSet(pixels.astype(np.uint8), labels, Teacher(boxes, best, roots))


@pytest.fixture(scope="module")
def batches() -> Batches:
    sets = {
        "taught": images(40, 20, labelled=False, crops=2),
        "labelled": images(30, 12, labelled=True, crops=1),
    }
    weights = {name: sampling_weights(s.presumed_classes()) for name, s in sets.items()}
    return Batches(sets, weights, CLASSES, seed=3)


class TestTargets:
    def test_what_the_teacher_leaves_is_spread_evenly(self):
        classes, roots = np.array([[2, 0]]), np.array([[204, 102]], np.uint8)
        even = (1 - 0.64 - 0.16) / 4
        expected = [[0.16 + even, even, 0.64 + even, even]]
        np.testing.assert_allclose(teacher_probabilities(classes, roots, 4), expected, rtol=1e-5)

    @given(st.lists(st.integers(0, 255), min_size=8, max_size=8))
    def test_a_teachers_probabilities_sum_to_one(self, roots):
        given_roots = np.array([roots], np.uint8)
        result = teacher_probabilities(np.arange(8)[None], given_roots, 20)
        assert result.min() >= 0
        assert result.sum() == pytest.approx(1, abs=1e-5)

    def test_labels_are_smoothed_and_unknown_ones_are_zeros(self):
        result = label_probabilities(np.array([1, -1]), 0.1, 4)
        np.testing.assert_allclose(result, [[0.025, 0.925, 0.025, 0.025], [0] * 4], rtol=1e-6)

    def test_the_teacher_alone_counts_where_no_label_is_known(self):
        true = label_probabilities(np.array([0, -1]), 0.0, 2)
        taught = np.array([[0.4, 0.6], [0.2, 0.8]], np.float32)
        np.testing.assert_allclose(blend(true, taught, 0.5), [[0.7, 0.3], [0.2, 0.8]], rtol=1e-6)


class TestSampling:
    def test_classes_are_drawn_by_the_square_root_of_their_images(self):
        classes = np.repeat([0, 1], [90, 10])
        weights = sampling_weights(classes)
        assert weights.sum() == pytest.approx(1)
        assert weights[:90].sum() / weights[90:].sum() == pytest.approx(3)

    def test_a_theme_has_its_share_at_most(self):
        classes = np.repeat(np.arange(10), 20)
        weights = sampling_weights(classes, caps={0.15: (range(3),), 0.5: (range(3, 5),)})
        assert weights[classes < 3].sum() == pytest.approx(0.15)
        assert weights.sum() == pytest.approx(1)

    def test_image_of_weight_zero_is_never_drawn(self):
        sampler = Sampler(np.array([0.0, 2.0, 0.0, 1.0, 0.0]))
        drawn = sampler.draw(3000, np.random.default_rng(0))
        assert set(drawn.tolist()) == {1, 3}
        assert 1800 < (drawn == 1).sum() < 2200

    @settings(max_examples=30)
    @given(st.lists(st.integers(-1, 9), min_size=1, max_size=300))
    def test_a_twentieth_is_held_out_of_each_class(self, classes):
        values = np.array(classes)
        held = held_out(values)
        np.testing.assert_array_equal(held, held_out(values))
        assert abs(held.sum() - len(values) / 20) < 1
        for value in set(classes):
            assert abs(held[values == value].sum() - classes.count(value) / 20) < 1


class TestBatches:
    def test_batch_is_a_function_of_seed_and_step(self, batches):
        again = Batches(batches.sets, {n: np.ones(len(s)) for n, s in batches.sets.items()}, 6, 3)
        again._samplers = batches._samplers
        one, other = (b.make(7, PARTS, 10, Augmentation()) for b in (batches, again))
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)
        assert not np.array_equal(one[0], batches.make(8, PARTS, 10, Augmentation())[0])

    def test_batch_holds_images_and_probabilities(self, batches):
        images, targets = batches.make(0, PARTS, 10, Augmentation())
        assert images.shape == (10, 10, 10, 3)
        assert targets.shape == (10, CLASSES)
        assert images.dtype == targets.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)

    def test_image_that_nobody_knows_could_be_anything(self, batches):
        unknown = ImageSet(np.zeros((3, 8, 8, 3), np.uint8), np.full(3, -1))
        one = Batches({"patterns": unknown}, {"patterns": np.ones(3)}, CLASSES, 1)
        targets = one.make(0, (Part("patterns", 2),), 8, Augmentation())[1]
        np.testing.assert_allclose(targets, 1 / CLASSES, rtol=1e-6)

    def test_the_students_crop_is_one_that_the_teacher_saw(self):
        pixels = np.zeros((1, 20, 20, 3), np.uint8)
        pixels[:, 5:15, 5:15] = 255
        teacher = Teacher(
            np.array([[[64, 64, 191, 191]]]), np.array([[[0, 1]]]), np.array([[[200, 9]]])
        )
        sets = {"taught": ImageSet(pixels, np.array([-1]), teacher)}
        still = Augmentation(light=0.0, tint=0.0, focus=0.0)
        images, _ = Batches(sets, {"taught": np.ones(1)}, CLASSES, 0).make(
            0, (Part("taught", 20, crop="teacher"),), 4, still
        )
        assert images.min() > 0.7

    def test_mixup_keeps_the_first_image_foremost(self):
        images = np.stack([np.full((2, 2, 3), i, np.float32) for i in range(4)])
        targets = np.eye(4, dtype=np.float32)
        mixed, shares = mix_up(images, targets, 0.4, np.random.default_rng(1))
        assert (shares.argmax(axis=1) == np.arange(4)).all()
        np.testing.assert_allclose(mixed[:, 0, 0, 0], shares @ np.arange(4), rtol=1e-6)

    def test_batches_made_ahead_come_in_order_and_pass_on_errors(self):
        assert list(prefetch(lambda step: step, 3, 20)) == list(range(3, 20))

        def fail(step):
            raise ValueError(f"step {step}")

        with pytest.raises(ValueError, match="step 0"):
            list(prefetch(fail, 0, 9))


class TestImages:
    def test_random_boxes_lie_within_the_image(self):
        random = np.random.default_rng(0)
        for _ in range(200):
            left, top, right, bottom = random_box(30, 20, Augmentation(area=(0.1, 1.0)), random)
            assert 0 <= left < right <= 30 + 1e-9
            assert 0 <= top < bottom <= 20 + 1e-9

    def test_without_change_augmentation_only_flips_and_resizes(self):
        image = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 24 * 3).reshape(24, 24, 3)
        still = Augmentation(light=0.0, tint=0.0, focus=0.0)
        images = augment([image], [(0, 0, 24, 24)], 24, still, np.random.default_rng(0))
        np.testing.assert_allclose(images[0] * 255, image, atol=0.01)

    def test_crops_are_averaged_when_made_smaller(self):
        image = np.zeros((8, 8, 3), np.uint8)
        image[::2] = 200
        result = crop([image], [(0, 0, 8, 8)], 4)
        np.testing.assert_allclose(result, 100 / 255, rtol=1e-6)

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_patterns_depend_on_seed_and_number_alone(self, kind):
        few, many = (make_patterns(count, 24, 5, (kind,)) for count in (2, 4))
        np.testing.assert_array_equal(few, many[:2])
        assert not np.array_equal(many[0], many[1])


class TestCalibration:
    def test_the_temperature_of_overconfident_logits_is_found(self):
        random = np.random.default_rng(0)
        logits = random.normal(0, 2, (4000, 5))
        chances = probabilities(logits)
        truth = (chances.cumsum(axis=1) < random.random((4000, 1))).sum(axis=1)
        weights = np.full(4000, 1 / 4000)
        temperature = fit_temperature(3 * logits, truth, weights)
        assert temperature == pytest.approx(3, rel=0.1)
        hits = truth == logits.argmax(axis=1)
        before, after = (
            calibration_error(probabilities(3 * logits, t).max(axis=1), hits, weights)
            for t in (1.0, temperature)
        )
        assert after < 0.03 < before

    def test_each_class_weighs_the_same(self):
        weights = class_weights(np.array([4, 4, 4, 7]))
        np.testing.assert_allclose(weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


class TestCourse:
    def test_the_rate_rises_and_stays(self):
        rates = [COURSE.rate(step) for step in range(3)]
        assert rates == pytest.approx([0.025, 0.05, 0.05])
        assert [COURSE.phase(step).size for step in range(3)] == [8, 16, 16]

    def test_a_cooldown_falls_to_zero_in_its_share_of_the_steps(self):
        course = replace(COURSE, phases=(Phase(1000, 8, PARTS),)).cooldown(500, 0.1, (16, 32))
        assert course.last == 550
        assert [course.phase(step).size for step in (500, 524, 525, 549)] == [16, 16, 32, 32]
        assert course.rate(500) == pytest.approx(0.05)
        assert course.rate(525) == pytest.approx(0.025)
        assert 0 < course.rate(549) < 0.0011


@pytest.mark.filterwarnings("ignore")
class TestLoop:
    @pytest.fixture(scope="class")
    def settings(self):
        from nasnet_cli.training.loop import Settings

        return Settings(NETWORK, average_steps=4, checkpoint_steps=2, evaluate_steps=2)

    @pytest.fixture(scope="class", autouse=True)
    def eagerly(self):
        """Run without graphs, which take longer to trace than these few steps do."""
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)

    def run(self, settings, course, batches, path, **options):
        import keras

        from nasnet_cli.training.loop import Training, train

        keras.utils.set_random_seed(1)
        training, records = Training(settings, course), []
        training.average.every = 1
        train(training, batches, path, log=records.append, **options)
        return training, records

    def test_a_stopped_run_ends_like_an_uninterrupted_one(self, settings, batches, tmp_path):
        course = replace(COURSE, phases=(Phase(3, 8, PARTS),))
        _, records = self.run(settings, course, batches, tmp_path / "whole.npz")
        assert [r["step"] for r in records] == [2, 3]
        shorter = replace(COURSE, phases=(Phase(1, 8, PARTS),))
        path, copy = tmp_path / "stopped.npz", tmp_path / "elsewhere" / "copy.npz"
        self.run(settings, shorter, batches, path, copies=[copy])
        assert path.read_bytes() == copy.read_bytes()
        self.run(settings, course, batches, path)
        ends = [load_checkpoint(tmp_path / name) for name in ("whole.npz", "stopped.npz")]
        assert (ends[0].step, ends[0].seen) == (ends[1].step, ends[1].seen) == (3, 30)
        for kind in ("weights", "average"):
            one, other = (getattr(end, kind) for end in ends)
            for name, value in one.items():
                np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-5)
        assert not list(tmp_path.rglob("*.part*"))

    def test_the_loss_in_the_log_is_the_mean_of_all_batches(self, settings, batches, tmp_path):
        course = replace(COURSE, phases=(Phase(2, 8, PARTS),))
        _, (both,) = self.run(settings, course, batches, tmp_path / "both.npz")
        single = replace(settings, checkpoint_steps=1)
        _, (first, second) = self.run(single, course, batches, tmp_path / "single.npz")
        assert first["loss"] != second["loss"]
        assert both["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2, abs=2e-4)

    def test_evaluation_sees_the_average_and_changes_nothing(self, settings, batches, tmp_path):
        from accuracy import accuracy_by_group, class_groups

        held = {name: (s, np.arange(len(s))) for name, s in batches.sets.items()}
        groups = class_groups(list(batches.sets.values()), CLASSES)
        seen = []

        def evaluate(model):
            from nasnet_cli.network.layers.keras import slim_variables

            seen.append({n: np.array(v) for n, v in slim_variables(model).items()})
            return accuracy_by_group(model, held, groups)

        training, records = self.run(
            settings, COURSE, batches, tmp_path / "c.npz", evaluate=evaluate
        )
        assert [r["size"] for r in records] == [8, 16, 16]
        assert ["labelled" in r for r in records] == [False, True, True]
        assert {"taught", "taught_rare"} <= records[-1].keys()
        last = load_checkpoint(tmp_path / "c.npz")
        for name, variable in training.variables.items():
            np.testing.assert_array_equal(seen[-1][name], last.average[name])
            np.testing.assert_array_equal(variable, last.weights[name])
        name = "cell_0/1x1/weights"
        assert not np.array_equal(last.average[name], last.weights[name])


@pytest.mark.filterwarnings("ignore")
def test_the_auxiliary_head_counts_and_path_dropout_grows():
    import keras

    from nasnet_cli.network.layers.keras import PathDropout
    from nasnet_cli.training.loop import Settings, Training

    spec = replace(CIFAR, image_size=16, cells_per_stage=1, filters=4, classes=3, path_keep=0.6)
    training = Training(Settings(spec, auxiliary=0.4, ramps=True), Course((Phase(8, 16, ()),), 0.0))
    model = training.trained_model(16)
    random = np.random.default_rng(0)
    images, targets = random.random((6, 16, 16, 3), np.float32), np.eye(3, dtype="f")[[0, 1, 2] * 2]
    losses = []
    for step in (0, 4):
        training.step = step
        losses.append(training.train_step(model, images, targets))
        ramps = {float(x.ramp) for x in model.layers if isinstance(x, PathDropout)}
        assert ramps == {step / 8}
    # At first nothing is dropped, so that the loss can be computed again.
    for layer in model.layers:
        if isinstance(layer, PathDropout):
            layer.ramp.assign(0.0)
    found = model(images, training=True)
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    expected = entropy(targets, found["Logits"]) + 0.4 * entropy(targets, found["AuxLogits"])
    assert losses[0] == pytest.approx(float(expected + sum(model.losses)), rel=1e-4)
    assert any(name.startswith("aux_1/") for name in training.state().weights)


def test_a_full_disk_leaves_no_part_of_a_state(tmp_path, monkeypatch):
    folder = ProgressFolder(tmp_path / "state", "a run")
    some = {"layer/weights": np.zeros(3, np.float32)}
    folder.latest = Progress(Checkpoint(1, 2, some, some, [np.zeros(3)]), (0.5,), ())
    folder.save()
    before = (tmp_path / "state" / "checkpoint.npz").read_bytes()
    savez = np.savez

    def fill_up(file, **arrays):
        savez(file, **arrays)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fill_up)
    with pytest.raises(OSError, match="No space left"):
        folder.save()
    folder.forget()
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["checkpoint.npz", "history.json"]
    assert (tmp_path / "state" / "checkpoint.npz").read_bytes() == before
    read = folder.read()
    assert read is not None and read.losses == (0.5,) and read.checkpoint.seen == 2


def test_a_state_that_may_not_be_read_is_not_called_damaged(public_path, as_nobody):
    folder = ProgressFolder(public_path / "state", "a run")
    some = {"layer/weights": np.zeros(3, np.float32)}
    folder.latest = Progress(Checkpoint(1, 2, some, some, [np.zeros(3)]), (0.5,), ())
    folder.save()
    folder.forget()
    (public_path / "state" / "history.json").chmod(0)
    as_nobody()
    with pytest.raises(OutputError, match="Permission to read the unfinished run"):
        folder.read()


def test_the_moving_average_approaches_a_constant():
    from nasnet_cli.training.loop import MovingAverage

    average = MovingAverage({"a": np.zeros(2, np.float32)}, average_steps=50, every=10)
    for step in range(10, 2010, 10):
        average.update(step, {"a": np.array([1, 3], np.float32)})
    np.testing.assert_allclose(average.values["a"], [1, 3], rtol=1e-3)
