r"""Searches for the best network for your data within a number of milliseconds on your device.

    python -m pnas_tf.search --flagfile=quickstart.flags --run_dir=runs/quickstart
    python -m pnas_tf.search --flagfile=mobile.flags --run_dir=runs/mobile   # the paper's search
    python -m pnas_tf.search --flagfile=quickstart.flags --space=cifar_mb --dataset=folder:photos \
        --image_size=64 --batch_size=32 --table=host.jsonl --target_ms=2 --run_dir=runs/photos

Writes into --run_dir:

    arch.json             the network: the most probable so far, and at the end the best finalist
    finalists.json        the candidates for the result, with their scores
    inherited.weights.h5  weights of the network from the supernet
    metrics.jsonl, logs/  the course of the search: one line per epoch, and curves for TensorBoard
    checkpoints/, run.flags, inputs.json, versions.json   files for resuming the search

Ctrl-C or SIGTERM saves the state and stops the search. The same command resumes it, with the same result as without
the interruption.
"""
