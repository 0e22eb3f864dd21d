"""Models whose files every version of Keras 3 loads, not only the version that wrote them."""

from typing import Any

# Entries of configs that Keras added after 3.0, with the values at which a layer computes what it did before. Older
# versions refuse a config with an entry that they do not know, whatever its value.
ADDED = {
    "optional": False, "ragged": False,  # InputLayer
    "input_axes": None, "output_axes": None,  # initializers
    "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99,  # BatchNormalization
    "quantization_config": None,  # Dense
}


def saved_for_any_version(model: Any) -> Any:
    """Lets Keras write the config of a functional model as Keras 3.0 would.

    This also holds for `model.save` and for `keras.callbacks.ModelCheckpoint`, but not for other models that are made
    from the layers of this one.

    Args:
        model: Functional Keras model of stock layers.

    Returns:
        The same model.
    """
    original = model.get_config

    def get_config():
        config = _without_added(original())
        for name in ("input_layers", "output_layers"):
            # Up to Keras 3.3, a single tensor stood in a list, too; later versions read both.
            if isinstance(config[name][0], str):
                config[name] = [config[name]]
        return config

    model.get_config = get_config
    return model


def _without_added(config):
    """A config without the entries of `ADDED` that are at their values."""
    if isinstance(config, dict):
        return {name: _without_added(value) for name, value in config.items()
                if name not in ADDED or value != ADDED[name]}
    if isinstance(config, list | tuple):
        return type(config)(_without_added(value) for value in config)
    return config
