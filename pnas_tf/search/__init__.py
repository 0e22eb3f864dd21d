r"""Searches for the best network for your data within a number of milliseconds on your device.

    python -m pnas_tf.search --flagfile=quickstart.flags --run_dir=runs/quickstart
    python -m pnas_tf.search --space=lite0 --dataset=folder:photos --table=host.jsonl --target_ms=0.5 \
        --run_dir=runs/photos                     # from a pretrained network

Writes into --run_dir: arch.json (the network), finalists.json (the networks it was chosen from), front.json and front/
(the best network at each of several budgets), inherited.weights.h5 (its weights from the supernet), metrics.jsonl and
logs/ (the course of the search, one line per epoch and for TensorBoard), checkpoints/ and run.flags.

Ctrl-C or SIGTERM saves the state and stops the search. The same command resumes it, with the same result as without
the interruption.
"""
