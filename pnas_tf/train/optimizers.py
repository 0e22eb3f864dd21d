"""The optimizers of a training: the paper's SGD, and AdamW for pretrained networks on few images."""

import keras

from pnas_tf.train.recipe import ADAMW, Recipe

# Not decayed: scales and offsets of batch norm.
_SPARED = ["gamma", "beta"]


def of_recipe(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a settled recipe, for a training of so many steps."""
    how = adamw if recipe.optimizer == ADAMW else sgd
    return how(recipe.lr, steps, recipe.momentum, recipe.weight_decay, recipe.ema)


def sgd(lr: float, steps: int, momentum: float, weight_decay: float, ema: float = 0.0) -> keras.optimizers.SGD:
    """SGD of the paper's recipe: Nesterov momentum, a cosine learning rate that ends at 0, no decay on batch norm.

        gradient += weight_decay * weight
        velocity = momentum * velocity + gradient
        weight -= lr * (gradient + momentum * velocity)

    As in the authors' code, all other weights decay, including the classifier's bias. Keras applies the decay apart
    from the gradient, `weight -= lr * decay * weight`, so momentum does not multiply it by 1 / (1 - momentum) as in the
    formula above. This function multiplies the decay by that factor.

    With `ema`, the optimizer also keeps an average of the weights: average = ema * average + (1 - ema) * weight.
    """
    optimizer = keras.optimizers.SGD(schedule(lr, steps), momentum=momentum, nesterov=True,
                                     weight_decay=weight_decay / (1 - momentum) or None,
                                     use_ema=ema > 0, ema_momentum=ema)
    optimizer.exclude_from_weight_decay(var_names=_SPARED)
    return optimizer


def adamw(lr: float, steps: int, momentum: float, weight_decay: float, ema: float = 0.0) -> keras.optimizers.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) with the learning rate and the exceptions of `sgd`.

    Its steps do not grow with the gradients. Where blocks of a pretrained network were left out, the first gradients
    are large, and the steps of SGD undo what the network knows.

    Args:
        lr: Learning rate after the warm-up.
        steps: Steps of the training.
        momentum: Decay of the mean of the gradients; that of their squares is 0.999.
        weight_decay: Decay per step, in units of the learning rate.
        ema: Decay of the average of the weights; 0 for none.
    """
    optimizer = keras.optimizers.AdamW(schedule(lr, steps), beta_1=momentum, weight_decay=weight_decay,
                                       use_ema=ema > 0, ema_momentum=ema)
    optimizer.exclude_from_weight_decay(var_names=_SPARED)
    return optimizer


def schedule(lr: float, steps: int) -> keras.optimizers.schedules.CosineDecay:
    """A cosine from a learning rate to 0 over all steps, after a linear warm-up of 5 % of them, at most 1,000."""
    warmup = min(steps // 20, 1000)
    return keras.optimizers.schedules.CosineDecay(lr / 10, max(1, steps - warmup), warmup_target=lr,
                                                  warmup_steps=max(1, warmup))
