"""Runs the command: python -m pnas_tf.auto."""

from pnas_tf.auto.command import main

if __name__ == "__main__":
    main()
