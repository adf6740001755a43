"""Fine-tune a whole network in TensorFlow 1.15 with hub.Module.

    nasnet export module --format tf1-hub
    python finetune_tf1.py module images.npz

images.npz has images, float32 [n, size, size, 3] in [0, 1], and labels, int [n].
"""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

data = np.load(sys.argv[2])
classes = int(data["labels"].max()) + 1
images, labels = (
    tf.placeholder(tf.float32, [None, *data["images"].shape[1:]]),
    tf.placeholder(tf.int64, [None]),
)
network = hub.Module(sys.argv[1], trainable=True, tags={"train"})  # batch norm as in training
features = network(images, signature="image_feature_vector")
loss = tf.losses.sparse_softmax_cross_entropy(labels, tf.layers.dense(features, classes))
loss += tf.losses.get_regularization_loss()
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    step = tf.train.MomentumOptimizer(0.01, 0.9, use_nesterov=True).minimize(loss)
with tf.Session() as session:
    session.run([tf.global_variables_initializer(), tf.tables_initializer()])
    for _ in range(4):
        feed = {images: data["images"], labels: data["labels"]}
        print("loss", session.run([loss, step], feed)[0])
    tf.train.Saver().save(session, "./tuned")
