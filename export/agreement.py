"""Checks that a `.tflite` computes what its Keras model computes, within the bounds of its mode."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from export import convert, interpreter
from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.supernet import extensions

# Largest difference of a float32 logit. Rounding errors grow with the logits, so this bound grows with logits
# above 10.
FLOAT32_DIFFERENCE = 1e-4
# Smallest share of images on which float16 and Keras predict the same class.
FLOAT16_AGREEMENT = 0.995
# Largest loss of top-1 accuracy, by mode.
TOP1_LOSS = {"dynamic": 0.015, "int8": 0.015, "int8_qat": 0.007}
# Difference of two logits that a number format rounds away, as a share of the largest logit, by mode: a few units in
# the last place of a float16; one of the 256 steps from the least to the largest logit of int8.
ROUNDING = {"float16": 2**-9, "dynamic": 2**-7, "int8": 2**-7, "int8_qat": 2**-7}
WAY_OUT = {"dynamic": "Export float16", "int8": "Try more --calibration_images, or --mode=int8_qat",
           "int8_qat": "Try more --qat_epochs, or export float16"}
# Largest error of the output of a single op, by mode, as a share of the standard deviation of that output.
OP_ERROR = {"float32": 1e-3, "int8": 0.25}


def compare(mode: str, logits: np.ndarray, keras_logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compares the logits of a `.tflite` with those of its Keras model.

    Args:
        mode: One of `facts.MODES`.
        logits: Logits of the `.tflite`, float32 [images, classes].
        keras_logits: Logits of Keras for the same images, float32 [images, classes].
        labels: True classes, int [images].

    Returns:
        checked_images; max_difference, the largest absolute difference of a logit; keras_logit, the largest absolute
        logit of Keras; agreement, the share of images on which both predict the same class; top1 and keras_top1, the
        share of images that each classifies correctly; near_ties, the number of images on which both differ and whose
        two classes Keras hardly prefers one to the other, by no more than `ROUNDING`; ties_lost, how many of these
        Keras classifies correctly, less those that the `.tflite` does; and the results of the `.tflite` by class, from
        `by_class`.
    """
    predicted, expected = logits.argmax(1), keras_logits.argmax(1)
    largest, image = float(np.abs(keras_logits).max()), np.arange(len(labels))
    margin = keras_logits[image, expected] - keras_logits[image, predicted]
    near = (predicted != expected) & (margin <= ROUNDING.get(mode, 0.0) * largest)
    return {"checked_images": len(labels), "max_difference": float(np.abs(logits - keras_logits).max()),
            "keras_logit": largest, "agreement": float(np.mean(predicted == expected)),
            "top1": float(np.mean(predicted == labels)), "keras_top1": float(np.mean(expected == labels)),
            "near_ties": int(near.sum()),
            "ties_lost": int((expected == labels)[near].sum()) - int((predicted == labels)[near].sum()),
            **by_class(predicted, labels, logits.shape[1])}


def by_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, list[Any]]:
    """Counts the results of each class.

    Args:
        predicted: Predicted classes, int [images].
        labels: True classes, int [images].
        classes: Number of classes.

    Returns:
        Lists by class: class_images, the number of its images; class_correct, how many of them were classified
        correctly; class_mistaken_for, the class most often predicted for its other images, None if there are none.
    """
    images, correct, mistaken_for = [], [], []
    for label in range(classes):
        of_class = predicted[labels == label]
        wrong = of_class[of_class != label]
        images.append(len(of_class))
        correct.append(len(of_class) - len(wrong))
        mistaken_for.append(int(np.bincount(wrong).argmax()) if len(wrong) else None)
    return {"class_images": images, "class_correct": correct, "class_mistaken_for": mistaken_for}


def problem(mode: str, facts: dict[str, Any]) -> str | None:
    """Text that says how a `.tflite` exceeds the bounds of its mode; None if it keeps them.

    An image between two classes, `near_ties`, changes sides by rounding alone and does not count. Of the others, a
    difference on a single image is always accepted: with few images it would exceed any bound.

    Args:
        mode: One of `facts.MODES`.
        facts: Facts of the file, including those from `compare`.
    """
    images = facts["checked_images"]
    # Each comparison is written so that NaN fails it.
    if not np.isfinite(facts["max_difference"]):
        return "its logits are not numbers"
    bound = FLOAT32_DIFFERENCE * max(1.0, facts["keras_logit"] / 10)
    if mode == "float32" and not facts["max_difference"] <= bound:
        return f"its logits differ from Keras by {facts['max_difference']:.2g}, expected at most {bound:.2g}"
    agreement = facts["agreement"] + facts["near_ties"] / images
    if mode == "float16" and not agreement >= min(FLOAT16_AGREEMENT, 1 - 1 / images) - 1e-9:
        return (f"it agrees with Keras on {facts['agreement']:.2%} of {images} images, expected at least "
                f"{FLOAT16_AGREEMENT:.1%}")
    allowed, loss = TOP1_LOSS.get(mode, 1.0), facts["keras_top1"] - facts["top1"] - facts["ties_lost"] / images
    if not loss <= max(allowed, 1 / images) + 1e-9:
        return (f"its top-1 is {facts['top1']:.2%} and that of Keras {facts['keras_top1']:.2%} ({images} images), "
                f"expected a loss of at most {100 * allowed:.1f} points. {WAY_OUT[mode]}")
    return None


def check_ops_ship(types: Iterable[str]) -> None:
    """Converts examples of op types to float32 and int8 `.tflite` files and runs them.

    Args:
        types: Names of op types, as registered in `space.ops`.

    Raises:
        InputError: If an op has no built-in counterpart in TFLite, or computes other numbers there.
    """
    for op_type in types:
        for op in ops.examples(op_type):
            for key in extensions.keys(op):
                _check_op_ships(key)


def _check_op_ships(key):
    from pnas_tf import network

    model = network.build_op(key)
    images = np.random.default_rng(0).standard_normal((8, *key.input)).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    deviation = max(float(expected.std()), 1e-6)
    for mode, bound in OP_ERROR.items():
        try:
            content = convert.convert(model, mode, [images], int8_io="float32")
        except InputError as reason:
            raise InputError(f"Op {key} cannot ship: {reason}") from None
        outputs = interpreter.run(interpreter.make_interpreter(content), images)
        error = float(np.sqrt(np.mean((outputs - expected) ** 2))) / deviation
        if not error <= bound:
            raise InputError(f"Op {key} cannot ship: the error of its {mode} output is {error:.2g} standard deviations "
                             f"of that output, expected at most {bound:g}. Build it from other layers.")
