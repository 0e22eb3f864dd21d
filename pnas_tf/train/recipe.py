"""TODO: docstring."""



# What the authors trained each of their networks with, and so every network of that space.
DROPOUT = {"proxyless_gpu": 0.3, "proxyless_cpu": 0.2, "proxyless_mobile": 0.1, "proxyless_mobile_14": 0.3}
