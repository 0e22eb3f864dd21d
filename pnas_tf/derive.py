"""From probabilities to an arch."""

import numpy as np

from pnas_tf.arch import Arch
from pnas_tf.space import Space


def most_probable(space: Space, probs: np.ndarray) -> Arch:
    """The arch of the most probable op of each choice (paper section 3.3).

    Args:
        space: what was searched.
        probs: float [choices, ops], 0 for ops that a choice lacks.
    """
    return Arch(space, {name: block.ops[int(np.argmax(row[:len(block.ops)]))]
                        for (name, block), row in zip(space.choices.items(), probs, strict=True)})
