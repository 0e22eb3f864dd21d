"""Classifies images with the .tflite files of this folder. Needs numpy, and ai-edge-litert or tflite-runtime.

    pip install numpy ai-edge-litert
    python run.py                       # runs the examples and compares with the outputs they should have
    python run.py --image=photo.npy     # uint8 [height, width, channels], of the size in bundle.json
"""

import argparse
import importlib
import json
import os
import sys

import numpy as np

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
HERE = os.path.dirname(os.path.abspath(__file__))


def make_interpreter(path, runtime):
    """An interpreter of the wanted runtime (`auto`: whichever is installed), tensors allocated; and its name."""
    for name in RUNTIMES if runtime == "auto" else [runtime]:
        try:
            module = importlib.import_module(f"{name}.interpreter")
        except ImportError:
            continue
        interpreter = module.Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter, name
    sys.exit("No TFLite runtime is installed here. pip install ai-edge-litert")


def classify(interpreter, pixels, mean, std):
    """Logits, float32 [images, classes], of uint8 pixels [images, height, width, channels]; grey ones for a model of
    colour images have all three colours the same."""
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if pixels.shape[-1] == 1 and given["shape"][-1] == 3:
        pixels = np.repeat(pixels, 3, -1)
    values = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    if given["dtype"] != np.float32:
        scale, zero_point = given["quantization"]
        limits = np.iinfo(given["dtype"])
        values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(given["dtype"])
    size, logits = int(given["shape"][0]), []
    for start in range(0, len(values), size):
        batch = values[start:start + size]
        full = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)])
        interpreter.set_tensor(given["index"], full)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(taken["index"])[:len(batch)])
    result = np.concatenate(logits)
    if taken["dtype"] == np.float32:
        return result
    scale, zero_point = taken["quantization"]
    return (result.astype(np.float32) - zero_point) * np.float32(scale)


def check(mode, entry, expected, runtime):
    """Runs the examples; prints how far the outputs are from the expected logits, and returns whether that is good."""
    interpreter, name = make_interpreter(os.path.join(HERE, entry["file"]), runtime)
    with np.load(os.path.join(HERE, "examples.npz"), allow_pickle=False) as examples:
        images, expected = examples["images"], np.array(expected, np.float32)
    logits = classify(interpreter, images, entry["mean"], entry["std"])
    difference = float(np.abs(logits - expected).max())
    good = difference <= entry["tolerance"]
    print(f"{mode}: {len(images)} examples by {name}, largest difference {difference:.3g} (allowed "
          f"{entry['tolerance']:.3g}), {'as expected' if good else 'NOT AS EXPECTED'}")
    return good


def main():
    """Checks all models, or classifies one image."""
    with open(os.path.join(HERE, "bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    with open(os.path.join(HERE, "labels.txt"), encoding="utf-8") as file:
        labels = file.read().splitlines()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(bundle["models"]), help="one model; default: all for the examples")
    parser.add_argument("--image", help=".npy file of one image, uint8 " + str(bundle["image_shape"]))
    parser.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto")
    wanted = parser.parse_args()
    modes = [wanted.mode] if wanted.mode else list(bundle["models"])
    if not wanted.image:
        expected = bundle["expected"]["logits"]  # all are run, also after a bad one
        good = [check(mode, bundle["models"][mode], expected[mode], wanted.runtime) for mode in modes]
        sys.exit(0 if all(good) else 1)
    image = np.load(wanted.image, allow_pickle=False)
    if image.dtype != np.uint8 or list(image.shape) != bundle["image_shape"]:
        sys.exit(f"{wanted.image}: expected uint8 {bundle['image_shape']}, got {image.dtype} {list(image.shape)}.")
    for mode in modes:
        entry = bundle["models"][mode]
        interpreter, _ = make_interpreter(os.path.join(HERE, entry["file"]), wanted.runtime)
        logits = classify(interpreter, image[None], entry["mean"], entry["std"])[0]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares)[:5]
        print(f"{mode}: " + ", ".join(f"{labels[index]} {shares[index]:.1%}" for index in best))


if __name__ == "__main__":
    main()
