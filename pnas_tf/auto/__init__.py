r"""Makes a checked .tflite within your milliseconds out of a folder of pictures, and reports on it.

    python -m pnas_tf.auto photos --ms=0.5
    python -m pnas_tf.auto photos --ms=0.3 --dtype=int8
    python -m pnas_tf.auto photos               # half of the milliseconds of the whole pretrained network
    python -m pnas_tf.auto photos --ms=12 --table=phone.jsonl --run_dir=runs/phone

photos holds one folder of pictures for each class. The command runs six others: latency.build_table (this machine,
unless --table names another device), pnas_tf.search (from EfficientNet-Lite0 with its ImageNet weights), pnas_tf.train,
export.tflite, export.bundle and pnas_tf.report. It prints each before it starts, with an estimate of how long it takes.
All results are in one folder: --run_dir, or runs/NAME with the name of the folder of pictures.

Ctrl-C or SIGTERM stops it. The same command continues: steps that are complete are not run again.
"""
