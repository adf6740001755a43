"""Fine-tune a whole network in Keras 3, on any of its backends.

nasnet export features.keras --kind feature-vector
python finetune_keras3.py features.keras my_classes/ 96
"""

import sys

import keras

file, folder, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
images = keras.utils.image_dataset_from_directory(folder, image_size=(size, size))
classes = len(images.class_names)
network = keras.models.load_model(file)
scale = keras.layers.Rescaling(1 / 255)
model = keras.Sequential(
    [keras.Input((size, size, 3)), scale, network, keras.layers.Dense(classes)]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
model.compile(optimizer, loss, metrics=["accuracy"])
model.fit(images, epochs=2)
model.save("tuned.keras")
