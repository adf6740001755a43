"""A module's consumer of 2018: TensorFlow 1.15 and tensorflow-hub's hub.Module, under Python 3.7.

    python3.7 consume.py MODULE EXPECTED.npz

EXPECTED.npz has images [n, size, size, 3], and what the reference gives for them: logits,
global_pool, train_global_pool. Prints a line of JSON for each check, {"check", "holds", "found"};
tests/test_tf1_consumer.py starts it and reads them.
"""

import json
import os
import sys
import warnings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

v1 = tf.compat.v1
v1.logging.set_verbosity("ERROR")
KEYS = v1.GraphKeys
SIGNATURES = {"default", "image_classification", "image_feature_vector"}


def check(name, holds, found=""):
    print(json.dumps({"check": name, "holds": bool(holds), "found": str(found)}), flush=True)


def largest(a, b):
    return float(np.abs(a - b).max())


def start(session):
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])


def what_the_module_says(path, size):
    spec = hub.load_module_spec(path)
    tags = set(spec.get_tags())
    check("tag sets", tags == {frozenset(), frozenset({"train"})}, tags)
    for chosen in sorted(tags, key=len):
        name = "train" if chosen else "inference"
        names = set(spec.get_signature_names(tags=chosen))
        check("signatures for " + name, names >= SIGNATURES, names)
        info = spec.get_attached_message("image_module_info", hub.ImageModuleInfo, tags=chosen)
        shape = info and (info.default_image_size.height, info.default_image_size.width)
        check("image size attached for " + name, shape == (size, size), shape)


def inference(path, given):
    images = given["images"]
    size, (count, classes) = images.shape[1], given["logits"].shape
    depth = given["global_pool"].shape[1]
    with tf.Graph().as_default():
        module = hub.Module(path)
        check("expected image size", hub.get_expected_image_size(module) == [size, size])
        check("channels", hub.get_num_image_channels(module) == 3)
        inputs, outputs = module.get_input_info_dict(), module.get_output_info_dict()
        shape = inputs["images"].get_shape().as_list() if "images" in inputs else None
        check("one input, images", list(inputs) == ["images"] and shape == [None, size, size, 3])
        shape = outputs["default"].get_shape().as_list()
        check("shape of the default output", shape == [None, classes], shape)
        fed = v1.placeholder(tf.float32, [None, size, size, 3])
        plain = module(fed)
        named = module({"images": fed}, signature="image_classification", as_dict=True)
        vector = module(fed, signature="image_feature_vector")
        ends = module(fed, signature="image_feature_vector", as_dict=True)
        check("length of the feature vector", vector.get_shape().as_list() == [None, depth])
        check("endpoints beside the vector", len(ends) > 10 and "Cell_0" in ends, sorted(ends))
        check(
            "endpoints beside the classes", {"Logits", "Predictions"} <= set(named), sorted(named)
        )
        check("no updates in inference", not v1.get_collection(KEYS.UPDATE_OPS))
        check("nothing to train in inference", not v1.trainable_variables())
        check("no regularisation in inference", not v1.losses.get_regularization_losses())
        with v1.Session() as session:
            start(session)
            wanted = [plain, named["default"], vector, ends["default"]]
            logits, again, features, same = session.run(wanted, {fed: images})
            twice = session.run(plain, {fed: images})
            alone = session.run(plain, {fed: images[count - 1 :]})
    worst = largest(logits, given["logits"])
    check("logits are the reference's", worst < 1e-5, worst)
    worst = largest(features, given["global_pool"])
    check("feature vectors are the reference's", worst < 1e-5, worst)
    check("image_classification is the default", np.array_equal(logits, again))
    check("the vector is its signature's default", np.array_equal(features, same))
    check("the same images give the same", np.array_equal(logits, twice))
    check("an image alone gives the same", largest(alone[0], logits[-1]) < 1e-5)
    check("logits are no probabilities", not np.allclose(logits.sum(1), 1, atol=1e-3))
    return features


def training(path, given, inferred):
    with tf.Graph().as_default():
        images = tf.constant(given["images"])
        module = hub.Module(path, trainable=True, tags={"train"})
        trained, losses = v1.trainable_variables(), v1.losses.get_regularization_losses()
        check("variables to train", len(trained) > 100, len(trained))
        check("averages aren't trained", not [v for v in trained if "/moving_" in v.name])
        check("regularisation of each kernel", len(losses) > 100, len(losses))
        logits = module(images)
        updates = v1.get_collection(KEYS.UPDATE_OPS)
        check("updates for batch norm", len(updates) > 100, len(updates))
        vector = module(images, signature="image_feature_vector")
        regularisation = tf.add_n(losses)
        labels = tf.constant([3, 7][: len(given["images"])])
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        # No dropout lies before the vector, so that a loss on it must fall.
        head = tf.constant(
            np.random.RandomState(5).normal(0, 0.05, (int(vector.shape[1]), 5)), "float32"
        )
        on_vector = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels % 5, logits=tf.matmul(vector, head)
            )
        )
        with tf.control_dependencies(updates):
            step = v1.train.GradientDescentOptimizer(0.01).minimize(
                loss + regularisation + on_vector
            )
        means = [v for v in v1.global_variables() if v.name.endswith("moving_mean:0")]
        watched = [trained[0], trained[-1], means[0], means[-1]]
        with v1.Session() as session:
            start(session)
            one, two = session.run(logits), session.run(logits)
            check("dropout in training", largest(one, two) > 1e-3, largest(one, two))
            features = session.run(vector)
            check("batch statistics in training", largest(features, inferred) > 1e-3)
            worst = largest(features, given["train_global_pool"])
            check("training features are the reference's", worst < 1e-3, worst)
            check("regularisation counts", session.run(regularisation) > 0)
            before = session.run(watched)
            losses, on_vectors = [], []
            for _ in range(3):
                whole, part, _ = session.run([loss, on_vector, step])
                losses.append(float(whole))
                on_vectors.append(float(part))
            last, moved = session.run([on_vector, vector])
            after = session.run(watched)
    check("three steps lower the loss", np.isfinite(last) and last < on_vectors[0], on_vectors)
    check("each step changes the loss", np.isfinite(losses).all() and len(set(losses)) == 3, losses)
    check("training moves the vector", largest(moved, features) > 0)
    names = ["first weight", "last weight", "first average", "last average"]
    for name, old, new in zip(names, before, after):
        check("the {} moves".format(name), largest(old, new) > 0)


def main(path, expected):
    with np.load(expected) as saved:
        given = {name: saved[name] for name in saved.files}
    what_the_module_says(path, given["images"].shape[1])
    training(path, given, inference(path, given))


if __name__ == "__main__":
    main(*sys.argv[1:])
