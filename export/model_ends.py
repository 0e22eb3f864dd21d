"""Ends of a Keras model that was not made here: the range of pixels that it takes, and what its outputs are."""

from typing import Any

import numpy as np

from pnas_tf.errors import InputError

AUTO, DATASET = "auto", "dataset"
# Mean and standard deviation in `(pixel - mean) / std`, by the range that a model takes.
RANGES = {"0..255": (0.0, 1.0), "0..1": (0.0, 255.0), "-1..1": (127.5, 127.5)}
TAKES = (AUTO, DATASET, *RANGES)

LOGITS, PROBABILITIES, SCORES = "logits", "probabilities", "scores"
# What outputs are called, by their kind, in metadata and model card.
OUTPUTS = {
    LOGITS: "logits (their softmax is the probabilities)",
    PROBABILITIES: "probabilities, which add up to 1 (the model ends in a softmax)",
    SCORES: "scores from 0 to 1, each class by itself (the model ends in a sigmoid)",
}

# Fewer images cannot tell a model from chance.
FEWEST_IMAGES = 30
# Images on which other ranges are tried, and points of top-1 by which a better one is taken for the right one.
TRIED_IMAGES, BETTER = 500, 0.1
# A layer that takes pixels 0..255 leaves values of at most this size, as for a mean and deviation of ImageNet.
LARGEST_VALUE = 8.0


def own_range(model: Any) -> str | None:
    """The range that a model takes, as its own Rescaling or Normalization layer tells; None if it has none in front.

    Layers that leave the range as it is, such as those that augment or crop images, may stand before it.
    """
    for layer in _in_order(model):
        kind = layer.__class__.__name__
        if kind == "Rescaling":
            return "0..255" if float(np.max(np.abs(layer.scale))) * 255 <= LARGEST_VALUE else "0..1"
        if kind == "Normalization":
            mean, deviation = np.asarray(layer.mean), np.sqrt(np.asarray(layer.variance))
            return "0..255" if max(np.abs(mean).max(), deviation.max()) > 2 else "0..1"
        if not kind.startswith(("InputLayer", "Random", "Resizing", "CenterCrop", "Cropping2D", "ZeroPadding2D")):
            return None
    return None


def _in_order(model):
    """Layers and plain operations of a model and of the models inside it, in the order in which they run."""
    for layer in getattr(model, "operations", model.layers):
        if hasattr(layer, "layers"):
            yield from _in_order(layer)
        else:
            yield layer


def check_range(model: Any, outputs: np.ndarray, labels: np.ndarray, images: np.ndarray, data: Any) -> None:
    """Refuses a model that gets images in another range than it was trained on, or that has learned nothing.

    Args:
        model: Keras model.
        outputs: Outputs of the model for the images, float32 [images, classes].
        labels: True classes, int [images].
        images: Images as the model got them, normalised by the data set's mean and std.
        data: Data set.

    Raises:
        InputError: If the top-1 accuracy is no better than chance, or much better in another range.
    """
    top1, count = float(np.mean(outputs.argmax(1) == labels)), len(labels)
    if count < FEWEST_IMAGES:
        return
    pixels = images[:TRIED_IMAGES] * np.asarray(data.std, np.float32) + np.asarray(data.mean, np.float32)
    tried = {name: float(np.mean(model.predict((pixels - mean) / std, verbose=0).argmax(1) == labels[:TRIED_IMAGES]))
             for name, (mean, std) in RANGES.items() if {*data.mean, -1.0, *data.std} != {mean, -1.0, std}}
    best = max(tried.values())
    if best > top1 + BETTER:
        # A network of ReLUs may predict the same classes in several ranges.
        names = [name for name, accuracy in tried.items() if accuracy > best - 0.02]
        raise InputError(f"Keras' own top-1 is {top1:.1%} on {count:,} images, and {best:.1%} if the model gets its "
                         f"images as {' or '.join(names)}. Name what it takes: --model_takes={names[0]}"
                         f"{''.join(f', or {name}' for name in names[1:])}.")
    if at_chance(outputs.argmax(1), labels):
        raise InputError(f"Keras' own top-1 is {top1:.1%} on {count:,} images, no better than chance. Check that "
                         f"{data.name} is the data set of the model, with its classes in the same order, and what it "
                         f"takes: --model_takes={'|'.join((DATASET, *RANGES))}. To write the files all the same: "
                         "--allow_drop.")


def at_chance(predicted: np.ndarray, labels: np.ndarray) -> bool:
    """Whether predictions are right no more often than if they had nothing to do with the labels.

        expected = sum over classes of share(predicted) * share(labels)
        chance: accuracy <= expected + 2 * sqrt(expected * (1 - expected) / images)

    The same class for every image is chance, too, however many images that class has.

    Args:
        predicted: Predicted classes, int [images].
        labels: True classes, int [images].
    """
    classes = int(max(predicted.max(), labels.max())) + 1
    shares = [np.bincount(values, minlength=classes) / len(labels) for values in (predicted, labels)]
    expected = float(shares[0] @ shares[1])
    deviation = float(np.sqrt(expected * (1 - expected) / len(labels)))
    return bool(np.mean(predicted == labels) <= expected + 2 * deviation)


def output_kind(outputs: np.ndarray) -> str:
    """What the outputs of a classifier are, `LOGITS`, `PROBABILITIES` or `SCORES`, from those of some images.

    Args:
        outputs: Outputs of a model, float32 [images, classes].
    """
    if not (outputs.min() >= 0 and outputs.max() <= 1):
        return LOGITS
    return PROBABILITIES if np.allclose(outputs.sum(1), 1, atol=1e-3) else SCORES
