"""Runs the command: python -m pnas_tf.report."""

from pnas_tf.report.command import main

if __name__ == "__main__":
    main()
