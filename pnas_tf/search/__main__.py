"""Runs the command: python -m pnas_tf.search."""

from pnas_tf.search.command import main

if __name__ == "__main__":
    main()
