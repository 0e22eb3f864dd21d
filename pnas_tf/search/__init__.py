"""Searches the best network for a data set on a device.

    python -m pnas_tf.search --flagfile=quickstart.flags --run_dir=runs/quickstart

Writes run.flags, inputs.json, versions.json, arch.json (each epoch), metrics.jsonl, logs/ (TensorBoard),
checkpoints/ and inherited.weights.h5 into --run_dir. Ctrl-C and SIGTERM save and stop; the same command on the same
folder goes on, to the same result as if nothing had happened.
"""
