"""SGD and AdamW of a training, against their formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.train import optimizers
from pnas_tf.train.recipe import Recipe


@pytest.fixture
def model():
    """A network with a convolution, batch norm, and a dense layer with biases."""
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="dense", bias_initializer="ones")(
        keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("bn").set_weights([np.full(2, value, np.float32) for value in (1.5, 0.5, 0, 1)])
    return model


@pytest.mark.slow
def test_weight_decay_is_the_coupled_one_and_spares_batch_norm(model):
    """Without gradients, against SGD with Nesterov momentum and decay as part of the gradient."""
    lr, decay, momentum, steps = 0.05, 0.01, 0.9, 400
    optimizer = optimizers.sgd(lr, steps, momentum, decay)
    optimizer.build(model.trainable_variables)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    factor, velocity = 1.0, 0.0
    for _ in range(steps):
        rate = float(optimizer.learning_rate)
        optimizer.apply([tf.zeros_like(variable) for variable in model.trainable_variables])
        gradient = decay * factor
        velocity = momentum * velocity + gradient
        factor -= rate * (gradient + momentum * velocity)
    assert 0.2 < factor < 0.5
    for variable in model.trainable_variables:
        expected = 1.0 if "bn" in variable.path else factor
        np.testing.assert_allclose(variable, expected * before[variable.path], rtol=0.02, err_msg=variable.path)


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_adamw_is_its_formula_and_spares_batch_norm(model, momentum):
    """With random gradients, against Adam with decay apart from the gradient."""
    rng, lr, decay, steps = np.random.default_rng(0), 0.01, 0.2, 20
    recipe = Recipe(optimizer="adamw", lr=lr, momentum=momentum, weight_decay=decay)
    optimizer = optimizers.of_recipe(recipe, steps)
    optimizer.build(model.trainable_variables)
    expected = [variable.numpy().astype(float) for variable in model.trainable_variables]
    mean, square = ([np.zeros_like(value) for value in expected] for _ in range(2))
    for step in range(steps):
        gradients = [rng.normal(size=value.shape).astype(np.float32) for value in expected]
        rate = lr * (0.5 * (1 + np.cos(np.pi * (step - 1) / (steps - 1))) if step else 0.1)  # the first one climbs
        optimizer.apply([tf.constant(gradient) for gradient in gradients])
        for index, (variable, gradient) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
            mean[index] = momentum * mean[index] + (1 - momentum) * gradient
            square[index] = 0.999 * square[index] + 0.001 * gradient**2
            if "bn" not in variable.path:
                expected[index] = expected[index] * (1 - rate * decay)
            expected[index] = expected[index] - rate * (mean[index] / (1 - momentum**(step + 1))) / (
                np.sqrt(square[index] / (1 - 0.999**(step + 1))) + 1e-7)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-3, atol=1e-5, err_msg=variable.path)


def test_learning_rate_is_a_cosine_to_0_over_all_steps():
    schedule = optimizers.schedule(0.05, 10_000)
    assert max(float(schedule(step)) for step in range(0, 10_000, 10)) == pytest.approx(0.05)
    for step in (500, 2500, 5000, 9999):  # the first 500 climb
        cosine = 0.05 * 0.5 * (1 + np.cos(np.pi * (step - 500) / 9500))
        assert float(schedule(step)) == pytest.approx(cosine, abs=1e-6)
