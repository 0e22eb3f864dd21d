"""Classifies images with the .tflite files of this folder; needs numpy, and ai-edge-litert or tflite-runtime.

    pip install numpy ai-edge-litert
    python run.py                       # runs the examples and compares their outputs with the expected ones
    pip install pillow
    python run.py --image=photo.jpg     # classifies a photo with the recommended file

A photo is turned upright, transparent parts get a background, and its central part is resized, as for the test images
of the network. An image of exactly the network's size, such as those in examples/, is taken as it is.
"""

import argparse
import importlib
import json
import os
import sys
import warnings

import numpy as np

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
HERE = os.path.dirname(os.path.abspath(__file__))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# Pillow's modes of at most 8 bits a channel. From others, it would cut off bits.
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
MAX_PIXELS = 1 << 27
# Grey from red, green and blue (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


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


def read_image(path, background=(255, 255, 255)):
    """Reads an image file as a viewer shows it: turned upright, with a background behind transparent parts.

    Args:
        path: Path of an image file, or of a .npy file of uint8 [height, width, 1 or 3].
        background: Red, green and blue of the background, in bundle.json; the default is white.

    Returns:
        uint8 [height, width, channels].
    """
    if path.endswith(".npy"):
        try:
            pixels = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
            sys.exit(f"{path}: cannot be read as an array ({_one_line(error)}).")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape:
            sys.exit(f"{path}: expected uint8 [height, width, channels], got {pixels.dtype} {list(pixels.shape)}.")
        return pixels
    try:
        from PIL import Image, ImageOps
    except ImportError:
        sys.exit(f"{path}: image files are read by Pillow, which is not installed. pip install pillow, or save the "
                 "pixels as .npy.")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode not in MODES:
                sys.exit(f"{path}: its pixels have more than 8 bits a channel ({image.mode}). Save it with 8 bits.")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, MemoryError, EOFError,
            Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        sys.exit(f"{path}: cannot be read as an image ({_one_line(error)}).")
    opaque = Image.alpha_composite(Image.new("RGBA", upright.size, (*background, 255)), upright)
    return np.asarray(opaque.convert("RGB"))


def prepare(image, shape, central_part):
    """Prepares an image as the test images of the network were prepared.

    The central part is as high and as wide as the network's shape of image allows, times `central_part`. It is resized
    with bilinear weights, which cover more pixels (antialiasing) if it shrinks to less than half.

    Args:
        image: Pixels, uint8 [height, width, 1 or 3].
        shape: Height, width and channels that the network takes.
        central_part: Share of the central part, in bundle.json.

    Returns:
        uint8 [height, width, channels].
    """
    height, width, channels = shape
    if image.shape[:2] != (height, width):
        rows = max(1, round(central_part * min(image.shape[0], image.shape[1] * height / width)))
        columns = max(1, round(central_part * min(image.shape[1], image.shape[0] * width / height)))
        top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
        part = image[top:top + rows, left:left + columns].astype(np.float32)
        antialias = rows > 2 * height or columns > 2 * width
        image = np.tensordot(weights(rows, height, antialias), part, 1)
        image = np.swapaxes(np.tensordot(image, weights(columns, width, antialias), (1, 1)), 1, 2)
    if channels == 1 and image.shape[-1] == 3:
        image = np.asarray(image, np.float32) @ np.array(LUMA, np.float32)[:, None]
    if channels == 3 and image.shape[-1] == 1:
        image = np.repeat(image, 3, -1)
    if image.shape[-1] != channels:
        sys.exit(f"The network takes {channels} channels, and the image has {image.shape[-1]}.")
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def weights(size, new_size, antialias):
    """Bilinear weights of the pixels of a line for each pixel of its resized line, float32 [new_size, size]."""
    scale = size / new_size
    centres = (np.arange(new_size)[:, None] + 0.5) * scale - 0.5
    distances = np.abs(np.arange(size) - centres) / (max(1.0, scale) if antialias else 1.0)
    values = np.maximum(0, 1 - distances)
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


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


def show_classes(mode, bundle, image, labels, runtime):
    """Prints the most probable classes of an image.

    Args:
        mode: Name of the model.
        bundle: Contents of bundle.json.
        image: Image from `read_image`.
        labels: Class names by position of the output.
        runtime: As for `make_interpreter`.
    """
    entry = bundle["models"][mode]
    interpreter, _ = make_interpreter(os.path.join(HERE, entry["file"]), runtime)
    shape = [int(size) for size in interpreter.get_input_details()[0]["shape"][1:]]
    pixels = prepare(image, shape, bundle["central_part"])
    probabilities = classify(interpreter, pixels[None], entry["mean"], entry["std"])[0]
    if entry["output"] == "logits":
        probabilities = np.exp(probabilities - probabilities.max())
        probabilities /= probabilities.sum()
    best = np.argsort(-probabilities)[:5]
    print(f"{mode}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in best))


def _one_line(error):
    return " ".join(str(error).split())[:200] or type(error).__name__


def main():
    """Checks the models on the examples, or classifies one image."""
    sys.stdout.reconfigure(errors="backslashreplace")  # labels may be in any script
    with open(os.path.join(HERE, "bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    with open(os.path.join(HERE, "labels.txt"), encoding="utf-8") as file:
        labels = file.read().splitlines()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(bundle["models"]),
                        help=f"one model; default: all for the examples, {bundle['recommended']} for an image")
    parser.add_argument("--image", help="a photo (JPEG, PNG and others that Pillow reads), or pixels in a .npy file")
    parser.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto")
    arguments = parser.parse_args()
    if arguments.image:
        image = read_image(arguments.image, bundle["background"])
        show_classes(arguments.mode or bundle["recommended"], bundle, image, labels, arguments.runtime)
        return
    expected = bundle["expected"]["logits"]
    modes = [arguments.mode] if arguments.mode else list(bundle["models"])
    # A list, so that all models are run even if one fails.
    passed = [check(mode, bundle["models"][mode], expected[mode], arguments.runtime) for mode in modes]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
