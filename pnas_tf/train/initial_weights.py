"""The initial weights of a training: from scratch, from a supernet, or from a trained network."""

import os
from typing import Any, NamedTuple

from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import whole_blocks
from pnas_tf.space.arch import Arch

AUTO, SCRATCH, INHERITED, IMAGENET, TEACHER = "auto", "scratch", "inherited", "imagenet", "teacher"
WORDS = (AUTO, SCRATCH, INHERITED, IMAGENET, TEACHER)
ENDING = ".keras"


class Start(NamedTuple):
    """A network that is ready to train.

    Attributes:
        model: Keras model from images to logits.
        has_new_classifier: Whether the layers before the classifier are trained and the classifier is not.
        is_cut: Whether its blocks are parts of blocks that were trained, so that batch norm statistics do not hold.
        whole: Network with all blocks, for images of the same size, if the model has its weights; see `linear_maps`.
    """

    model: Any
    has_new_classifier: bool
    is_cut: bool = False
    whole: Any = None


def check(init: str) -> None:
    """Raises InputError if the text is neither a known word nor a .keras file that exists."""
    if init in WORDS:
        return
    if not init.endswith(ENDING) and not os.path.isdir(init):
        raise InputError(f"--init_weights must be {SCRATCH}, {INHERITED}, {IMAGENET}, {TEACHER}, a {ENDING} file or "
                         f"the folder of a training, got {init[:100]!r}.")
    if not os.path.isfile(_model_file(init)):
        raise InputError(f"{_model_file(init)[:300]}: no such file. Train a network, or import one: "
                         "python -m pnas_tf.import_weights.")


def build(arch: Arch, init: str, folder: RunFolder, *, teacher: str = "", dropout: float = 0.0,
          drop_path: float = 0.0, precision: str = "float32") -> Start:
    """Builds a network that is ready to train.

    Args:
        arch: Arch that fits the data.
        init: `scratch`; `inherited` for the supernet's weights, which a search left in the folder; `imagenet` for the
            pretrained network that the arch's space starts from; `teacher` for the blocks of the teacher; or a .keras
            file of the same arch, or its folder. The classifier starts from scratch if the number of classes differs.
        folder: Folder of the search.
        teacher: File of the teacher, for `teacher`.
        dropout: Dropout rate before the classifier.
        drop_path: Drop path rate, as in `network.assemble`.
        precision: Keras policy of the layers.

    Returns:
        The network and how it starts. It pads as PyTorch does if the network in the file does.

    Raises:
        InputError: If the weights are missing, damaged or of another network.
    """
    from pnas_tf import network
    from pnas_tf.network import layers as fast_layers

    kind = fast_layers if precision == "float32" else fast_layers.Typed(fast_layers, precision)
    if init == TEACHER:
        source = _read_teacher(teacher)
        layers = fast_layers.PyTorchPadded(kind) if fast_layers.is_pytorch_padded(source) else kind
        model = network.assemble(arch, dropout=dropout, drop_path=drop_path, layers=layers)
        return Start(model, True, whole=_take_blocks(model, source, teacher))
    if init in (SCRATCH, INHERITED, IMAGENET):
        model = network.assemble(arch, dropout=dropout, drop_path=drop_path, layers=kind)
        if init == INHERITED:
            _inherit(model, folder.inherited_weights)
            _check_finite(model, folder.inherited_weights)
        if init == IMAGENET:
            _cut_out(model, arch)
        return Start(model, init == IMAGENET, init == IMAGENET and whole_blocks.is_cut(arch))
    init = _model_file(init)
    source = read_model(init)
    layers = fast_layers.PyTorchPadded(kind) if fast_layers.is_pytorch_padded(source) else kind
    model = network.assemble(arch, dropout=dropout, drop_path=drop_path, layers=layers)
    is_new = _copy(source, model, init, head=f"{arch.space.head[-1].name}_")
    _check_finite(model, init)
    return Start(model, is_new)


def read_model(path: str) -> Any:
    """The Keras model in a .keras file.

    Raises:
        InputError: If it is not a Keras model that can be loaded safely.
    """
    import keras

    from pnas_tf.network import model_names

    try:
        with model_names.accepted(path) as file_path:
            return keras.models.load_model(file_path, compile=False, safe_mode=True)
    except InputError:
        raise
    except Exception as error:  # the exception depends on where the file is damaged; none is a defect of this program
        raise InputError(f"{path}: not a Keras model that can be loaded ({' '.join(str(error).split())[:150]}). "
                         "Save it again.") from None


def _model_file(init: str) -> str:
    return RunFolder(init).model if os.path.isdir(init) else init


def _inherit(model: Any, path: str) -> None:
    if not os.path.exists(path):
        raise InputError(f"{path} is missing: --init_weights=inherited needs the folder of a finished search.")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError):
        raise InputError(f"{path} does not fit this arch (was arch.json edited?). Use "
                         "--init_weights=scratch.") from None


def _check_finite(model: Any, path: str) -> None:
    from pnas_tf.network.build import non_finite_layer

    if found := non_finite_layer(model):
        raise InputError(f"{path}: {found}, which no training can start from. Use other --init_weights.")


def _cut_out(model: Any, arch: Arch) -> None:
    """Gives each layer its part of the pretrained network that the arch's space starts from."""
    from pnas_tf.network import pretrained, slicing

    name = arch.space.pretrained
    if not name:
        raise InputError(f"{arch.space.name} has no shipped weights, so --init_weights={IMAGENET} is not possible. "
                         f"Networks with such weights: {', '.join(pretrained.names())}.")
    full = slicing.FullNetwork(arch_lib.load(name), pretrained.load(name, arch.space.input_channels))
    shapes = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
    for block, op in arch.blocks():
        own = {layer: each for layer, each in shapes.items() if layer.startswith(f"{block.layer_name(op)}_")}
        for layer, values in full.layers_of(block, op, own).items():
            model.get_layer(layer).set_weights(values)


def _read_teacher(teacher: str) -> Any:
    if not teacher.endswith(ENDING):
        raise InputError(f"--init_weights={TEACHER} takes blocks of a network that --teacher names, got "
                         f"--teacher={teacher[:100] or 'none'}.")
    source = read_model(teacher)
    _check_finite(source, teacher)
    return source


def _take_blocks(model: Any, source: Any, teacher: str) -> Any:
    """Gives each layer the weights of the teacher's; returns the teacher for images of the model's size."""
    import keras

    layers = {layer.name: layer for layer in getattr(source, "layers", ()) if layer.weights}
    for layer in (layer for layer in model.layers if layer.weights):
        given = layers[layer.name].get_weights() if layer.name in layers else []
        if [value.shape for value in given] != [tuple(weight.shape) for weight in layer.weights]:
            raise InputError(f"--init_weights={TEACHER} takes whole blocks of the teacher, and {teacher} has no "
                             f"{layer.name} like that of this arch. Use --init_weights={IMAGENET}, which cuts blocks.")
        layer.set_weights(given)
    image = keras.Input(model.input_shape[1:], name="image")
    try:
        whole = keras.models.clone_model(source, input_tensors=[image] if isinstance(source.input, list) else image)
        whole.set_weights(source.get_weights())
    except (ValueError, TypeError) as error:  # layers that fit one size of images, or inputs by name
        height, width = model.input_shape[1:3]
        raise InputError(f"{teacher}: not a network that takes one image of {height} x {width} pixels "
                         f"({' '.join(str(error).split())[:120]}). Use --init_weights={IMAGENET}, or another "
                         "--teacher.") from None
    return whole


def _copy(source: Any, model: Any, path: str, head: str) -> bool:
    """Copies weights by layer name, which contains block and op. Only the head may differ; returns whether it does."""
    given = {layer.name: layer for layer in getattr(source, "layers", ()) if layer.weights}
    needed = {layer.name: layer for layer in model.layers if layer.weights}
    different = sorted(given.keys() ^ needed.keys())
    if different:
        raise InputError(f"{path} holds a network other than {model.name}: only one of them has {different[0][:60]}. "
                         "Name the network of the file by --arch.")
    is_new = False
    for name, layer in needed.items():
        there, here = ([tuple(weight.shape) for weight in each.weights] for each in (given[name], layer))
        if there == here:
            layer.set_weights(given[name].get_weights())
        elif name.startswith(head):
            is_new = True
        else:
            raise InputError(f"{path}: {name} holds {there}, {model.name} needs {here}. Name the network of the "
                             "file by --arch.")
    return is_new
