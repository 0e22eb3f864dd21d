"""Trains a found network (or a published one) with model.fit.

    python -m pnas_tf.train --run_dir=runs/quickstart
    python -m pnas_tf.train --arch=proxyless_mobile --dataset=folder:photos --run_dir=runs/photos
    python -m pnas_tf.train --flagfile=train.flags --run_dir=runs/mobile        # the paper's recipe
    python -m pnas_tf.train --arch=proxyless_mobile --init_weights=runs/pretrained/model.keras --epochs=20 --lr=0.01 \
        --dataset=folder:photos --run_dir=runs/photos                           # fine-tuning

Writes model.keras (stock Keras layers: it loads without this package) and train.json into --run_dir. The same command
goes on with a training that was interrupted, after its last whole epoch.
"""
