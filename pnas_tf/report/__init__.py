"""Writes the report of a run: one HTML file that opens offline, on a desk, a phone or paper.

    python -m pnas_tf.report --run_dir=runs/quickstart
    python -m pnas_tf.report --compare=runs/fast,runs/accurate,runs/mobilenet_v2

The report shows what is in the run folder and leaves out what is not there yet, so it can be written at any time
during a run. --compare puts several runs side by side; networks that were trained without a search are baselines.
"""
