"""Writes the report of a run: one HTML file that opens offline, on a desk, a phone or paper.

    python -m pnas_tf.report --run_dir=runs/quickstart
    python -m pnas_tf.report --compare=runs/fast,runs/accurate,runs/mobilenet_v2

It shows what lies in the run folder and leaves out what is not there yet, so it may be written at any time during a
run. --compare puts runs side by side; networks that were trained without a search are baselines.
"""
