"""Whether a `.tflite` says what its Keras model says."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from export import convert, interpreter
from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.supernet import extensions

# Rounding grows with the logits: beyond 10 the bound of 1e-4 grows with them.
FLOAT32_DIFFERENCE = 1e-4
FLOAT16_AGREEMENT = 0.995
TOP1_LOSS = {"dynamic": 0.015, "int8": 0.015, "int8_qat": 0.007}
WAY_OUT = {"dynamic": "Export float16", "int8": "Try more --calibration_images, or --mode=int8_qat",
           "int8_qat": "Try more --qat_epochs, or export float16"}


def logits_of(predict: Any, batches: Iterable[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of batches.

    Args:
        predict: from float32 [batch, height, width, channels] to logits [batch, classes].
        batches: pairs (images, int labels [batch]).

    Returns:
        float32 [images, classes] and int [images].
    """
    logits, labels = [], []
    for images, some in batches:
        logits.append(np.asarray(predict(np.asarray(images)), np.float32))
        labels.append(np.asarray(some))
    return np.concatenate(logits), np.concatenate(labels)


def agreement(logits: np.ndarray, keras_logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compares the logits [images, classes] of a `.tflite` with those of Keras.

    Returns:
        checked_images; max_difference of the logits and the largest keras_logit, absolute; agreement, the share of
        images on which both name the same class; top1 and keras_top1, the shares that are right.
    """
    predicted, expected = logits.argmax(1), keras_logits.argmax(1)
    return {"checked_images": len(labels), "max_difference": float(np.abs(logits - keras_logits).max()),
            "keras_logit": float(np.abs(keras_logits).max()), "agreement": float(np.mean(predicted == expected)),
            "top1": float(np.mean(predicted == labels)), "keras_top1": float(np.mean(expected == labels))}


def problem(mode: str, found: dict[str, Any]) -> str | None:
    """What is wrong in the facts of a `.tflite`, or None. One image may always differ: few images are no proof."""
    images = found["checked_images"]
    # Each comparison is written so that NaN fails it.
    if not np.isfinite(found["max_difference"]):
        return "its logits are not numbers"
    bound = FLOAT32_DIFFERENCE * max(1.0, found["keras_logit"] / 10)
    if mode == "float32" and not found["max_difference"] <= bound:
        return f"its logits differ from Keras by {found['max_difference']:.2g}, expected at most {bound:.2g}"
    if mode == "float16" and not found["agreement"] >= min(FLOAT16_AGREEMENT, 1 - 1 / images):
        return (f"it agrees with Keras on {found['agreement']:.2%} of {images} images, expected at least "
                f"{FLOAT16_AGREEMENT:.1%}")
    allowed, loss = TOP1_LOSS.get(mode, 1.0), found["keras_top1"] - found["top1"]
    if not loss <= max(allowed, 1 / images) + 1e-9:
        return (f"its top-1 is {found['top1']:.2%} where Keras has {found['keras_top1']:.2%} ({images} images), "
                f"expected to lose at most {100 * allowed:.1f} points. {WAY_OUT[mode]}")
    return None

def check_ops_ship(types: Iterable[str]) -> None:
    """Converts examples of op types and runs them.

    Raises:
        InputError: if one has no built-in op in TFLite, or gives other numbers there.
    """
    from pnas_tf import network

    for op in (op for name in types for op in ops.examples(name)):
        for key in extensions.keys(op):
            model = network.build_op(key)
            images = np.random.default_rng(0).standard_normal((8, *key.input)).astype(np.float32)
            expected = np.asarray(model(images, training=False))
            spread = max(float(expected.std()), 1e-6)
            for mode, most in (("float32", 1e-3), ("int8", 0.25)):
                try:
                    content = convert.convert(model, mode, [images], int8_io="float32")
                except InputError as reason:
                    raise InputError(f"Op {key} cannot ship: {reason}") from None
                found = interpreter.run(interpreter.make_interpreter(content), images)
                off = float(np.sqrt(np.mean((found - expected) ** 2))) / spread
                if not off <= most:
                    raise InputError(f"Op {key} cannot ship: as {mode} it is off by {off:.2g} of its output's "
                                     f"deviation, more than {most:g}.")
