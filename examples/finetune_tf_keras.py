"""Fine-tune a whole network in TensorFlow 2 with hub.KerasLayer.

nasnet export features --format saved-model --kind feature-vector
python finetune_tf_keras.py features my_classes/ 96
"""

import sys

import tensorflow_hub as hub
import tf_keras as keras

module, folder, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
images = keras.utils.image_dataset_from_directory(folder, image_size=(size, size))
classes = len(images.class_names)
network = hub.KerasLayer(module, trainable=True)  # batch norm and dropout as in training
scale = keras.layers.Rescaling(1 / 255, input_shape=(size, size, 3))
model = keras.Sequential([scale, network, keras.layers.Dense(classes)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, ["accuracy"])
model.fit(images, epochs=2)
model.save("tuned")
