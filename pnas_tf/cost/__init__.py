"""What a network costs and may cost: latency tables, prices, limits, goals. Needs no TensorFlow to import."""
