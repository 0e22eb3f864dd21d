"""Classifies images with the .tflite files of this folder; needs numpy, and ai-edge-litert or tflite-runtime.

    pip install numpy ai-edge-litert
    python run.py                       # runs the examples and compares their outputs with the expected ones
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
    """Makes an interpreter and allocates its tensors.

    Args:
        path: Path of a .tflite file.
        runtime: One of RUNTIMES, or `auto` for the first of them that is installed.

    Returns:
        The interpreter and the name of its runtime.
    """
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
    """Computes logits of images.

    Args:
        interpreter: Interpreter from `make_interpreter`.
        pixels: Images, uint8 [images, height, width, channels]; a model of colour images takes grey ones too.
        mean: Mean of the normalisation, in bundle.json.
        std: Standard deviation of the normalisation, in bundle.json.

    Returns:
        float32 [images, classes].
    """
    input_details, output_details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if pixels.shape[-1] == 1 and input_details["shape"][-1] == 3:
        pixels = np.repeat(pixels, 3, -1)
    values = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    if input_details["dtype"] != np.float32:
        scale, zero_point = input_details["quantization"]
        limits = np.iinfo(input_details["dtype"])
        values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(input_details["dtype"])
    size, logits = int(input_details["shape"][0]), []
    for start in range(0, len(values), size):
        batch = values[start:start + size]
        # The file takes a fixed number of images: the last batch is filled up with its last image.
        full = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)])
        interpreter.set_tensor(input_details["index"], full)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(output_details["index"])[:len(batch)])
    result = np.concatenate(logits)
    if output_details["dtype"] == np.float32:
        return result
    scale, zero_point = output_details["quantization"]
    return (result.astype(np.float32) - zero_point) * np.float32(scale)


def check(mode, entry, expected, runtime):
    """Runs the examples and prints the largest difference from the expected logits.

    Args:
        mode: Name of the model.
        entry: Entry of the model in bundle.json.
        expected: Expected logits [images][classes].
        runtime: As for `make_interpreter`.

    Returns:
        Whether the difference is within the tolerance of the model.
    """
    interpreter, name = make_interpreter(os.path.join(HERE, entry["file"]), runtime)
    with np.load(os.path.join(HERE, "examples.npz"), allow_pickle=False) as examples:
        images, expected = examples["images"], np.array(expected, np.float32)
    logits = classify(interpreter, images, entry["mean"], entry["std"])
    difference = float(np.abs(logits - expected).max())
    passed = difference <= entry["tolerance"]
    print(f"{mode}: {len(images)} examples with {name}, largest difference {difference:.3g} (allowed "
          f"{entry['tolerance']:.3g}), {'as expected' if passed else 'NOT AS EXPECTED'}")
    return passed


def main():
    """Checks the models on the examples, or classifies one image."""
    sys.stdout.reconfigure(errors="backslashreplace")  # labels may be in any script
    with open(os.path.join(HERE, "bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    with open(os.path.join(HERE, "labels.txt"), encoding="utf-8") as file:
        labels = file.read().splitlines()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(bundle["models"]), help="one model; default: all for the examples")
    parser.add_argument("--image", help=".npy file of one image, uint8 " + str(bundle["image_shape"]))
    parser.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto")
    arguments = parser.parse_args()
    modes = [arguments.mode] if arguments.mode else list(bundle["models"])
    if not arguments.image:
        expected = bundle["expected"]["logits"]
        # A list, so that all models are run even if one fails.
        passed = [check(mode, bundle["models"][mode], expected[mode], arguments.runtime) for mode in modes]
        sys.exit(0 if all(passed) else 1)
    image = np.load(arguments.image, allow_pickle=False)
    if image.dtype != np.uint8 or list(image.shape) != bundle["image_shape"]:
        sys.exit(f"{arguments.image}: expected uint8 {bundle['image_shape']}, got {image.dtype} {list(image.shape)}.")
    for mode in modes:
        entry = bundle["models"][mode]
        interpreter, _ = make_interpreter(os.path.join(HERE, entry["file"]), arguments.runtime)
        logits = classify(interpreter, image[None], entry["mean"], entry["std"])[0]
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities)[:5]
        print(f"{mode}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in best))


if __name__ == "__main__":
    main()
