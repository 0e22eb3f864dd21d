"""Runs the command: python -m pnas_tf.train."""

from pnas_tf.train.command import main

if __name__ == "__main__":
    main()
