"""A plain CNN as many Keras users write it first: four blocks of convolutions, augmentation by Keras' layers, Adam.

    python -m benchmarks.quality.plain_cnn --dataset=folder:photos --run_dir=runs/cnn

Reads the same training and test images as pnas_tf.train with the same --seed, and writes model.keras and train.json as
it does.
"""

import json
from typing import Any

import numpy as np
from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.run_folder import RunFolder

FILTERS = (16, 32, 64, 128)


def build(image_shape: tuple[int, int, int], num_classes: int) -> Any:
    """The network, about 100,000 parameters.

    Args:
        image_shape: Height, width and channels of the images.
        num_classes: Number of classes.

    Returns:
        Keras model from normalised images to logits.
    """
    import keras
    from keras import layers

    inputs = keras.Input(image_shape, name="image")
    x = inputs
    for filters in FILTERS:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="plain_cnn")


def arrays(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images of a part of a data set in memory, as a small folder allows, and their labels."""
    images, labels = zip(*part.batches(256).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def train(data: Any, *, epochs: int, batch_size: int, seed: int) -> tuple[Any, dict[str, Any]]:
    """Trains the network.

    Args:
        data: Data set, from `data.load`.
        epochs: Passes over the training images.
        batch_size: Images per step.
        seed: Seed of weights, order and augmentation.

    Returns:
        The model, and its facts under the names of train.json.
    """
    import keras
    from keras import layers

    from pnas_tf import network

    keras.utils.set_random_seed(seed)
    model = build(data.image_shape, data.num_classes)
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.05), layers.RandomZoom(0.15),
                                layers.RandomTranslation(0.1, 0.1)])
    images = keras.Input(data.image_shape)
    # Augmentation acts in training only; the network inside is what is exported.
    trained = keras.Model(images, model(augment(images)))
    trained.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                    metrics=["accuracy"])
    trained.fit(*arrays(data.train), batch_size=batch_size, epochs=epochs, verbose=2,
                validation_data=arrays(data.held_out))
    loss, accuracy = trained.evaluate(*arrays(data.test), verbose=0)
    return model, {"params": network.count_params(model), "macs": network.count_macs(model), "epochs": epochs,
                   "dataset": data.name, "seed": seed, "test_images": data.test.size, "test_loss": float(loss),
                   "test_accuracy": float(accuracy)}


def _main() -> None:
    from pnas_tf import data as data_lib
    from pnas_tf.network import build as build_lib

    f = flags.FLAGS
    data = data_lib.load(f.dataset, image_size=f.image_size, seed=f.seed)
    model, facts = train(data, epochs=f.epochs, batch_size=f.batch_size, seed=f.seed)
    folder = RunFolder(f.run_dir)
    build_lib.save_model(model, folder.model)
    facts["data"] = {"dataset": f.dataset, "data_dir": None, "seed": f.seed}
    files.write_text(folder.training_facts, json.dumps(facts, indent=1) + "\n")
    print(f"Test accuracy {100 * facts['test_accuracy']:.2f} %.\nModel: {folder.model}")


if __name__ == "__main__":
    flags.DEFINE_string("dataset", None, "Data set.", required=True)
    flags.DEFINE_string("run_dir", None, "Folder of the results.", required=True)
    flags.DEFINE_integer("image_size", 96, "Height and width of the images.", 16, 1024)
    flags.DEFINE_integer("epochs", 150, "Passes over the training images.", 1)
    flags.DEFINE_integer("batch_size", 32, "Images per step.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the split, weights, order and augmentation.", 0)
    start.start(_main)
