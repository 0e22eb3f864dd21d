"""What a network costs and may cost. Only `expectation`, the differentiable twin, imports TensorFlow at the top."""
