"""The mistakes of a trained network: accuracy of each class, confused classes, and the images of the largest loss."""

import base64
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pnas_tf import terminal
from pnas_tf.data.parts import Part
from pnas_tf.errors import printable
from pnas_tf.network.evaluate import Score

# Number of images that are kept, and the largest side of their thumbnails in pixels.
IMAGES, SIDE = 12, 64
FORMAT = "pnas_tf.mistakes/1"


def find(model: keras.Model, test: Part, class_names: Sequence[str]) -> tuple[Score, dict[str, Any]]:
    """Classifies the test images.

    Args:
        model: Network from images to logits.
        test: Test images.
        class_names: Name of each class, by label.

    Returns:
        Loss and accuracy, and the contents of mistakes.json:
        classes: name, images, and accuracy (None without images) of each class, by label.
        confusion: [label, predicted label, images] for each pair that occurs, in order.
        mistaken: the images of the largest loss among those that are classified wrongly, with label, prediction (both
            as numbers), its probability, loss, path (None for images in memory) and thumbnail (PNG in base64).
    """
    labels = test.labels()
    logits = np.asarray(model.predict(test.batches(256), verbose=0), np.float64)
    log_probs = logits - logits.max(1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
    losses, predicted = -log_probs[np.arange(len(labels)), labels], logits.argmax(1)
    pairs, counts = np.unique(np.stack([labels, predicted], 1), axis=0, return_counts=True)
    totals = np.bincount(labels, minlength=len(class_names))
    right = np.bincount(labels[labels == predicted], minlength=len(class_names))
    wrong = np.flatnonzero(labels != predicted)
    worst = wrong[np.argsort(-losses[wrong], kind="stable")[:IMAGES]]
    pictures = zip(test.paths(worst), test.thumbnails(worst, SIDE), strict=True)
    return Score(float(losses.mean()), float(right.sum() / totals.sum()), len(labels)), {
        "format": FORMAT,
        "classes": [{"name": name, "images": int(total), "accuracy": float(hits / total) if total else None}
                    for name, total, hits in zip(class_names, totals, right, strict=True)],
        "confusion": np.column_stack([pairs, counts]).tolist(),
        "mistaken": [{"label": int(labels[place]), "prediction": int(predicted[place]),
                      "probability": float(np.exp(log_probs[place, predicted[place]])), "loss": float(losses[place]),
                      "path": path, "thumbnail": base64.b64encode(png).decode("ascii")}
                     for place, (path, png) in zip(worst, pictures, strict=True)]}


def summary(mistakes: dict[str, Any]) -> str:
    """The three worst classes and the commonest confusion, in a line; "" if no image is classified wrongly."""
    names = [printable(each["name"], 40) for each in mistakes["classes"]]
    rates = [(each["accuracy"], name) for each, name in zip(mistakes["classes"], names, strict=True)
             if each["accuracy"] not in (None, 1.0)]
    confused = [entry for entry in mistakes["confusion"] if entry[0] != entry[1]]
    if not confused:
        return ""
    label, predicted, images = max(confused, key=lambda entry: entry[2])
    classes = ", ".join(f"{name} {terminal.percent(rate)}" for rate, name in sorted(rates)[:3])
    return (f"Worst classes: {classes}. Commonest confusion: {names[label]} taken for {names[predicted]}, "
            f"{'once' if images == 1 else f'{images:,} times'}.")
