r"""Trains the network of a search, or a published network, on your data.

    python -m pnas_tf.train --run_dir=runs/quickstart
    python -m pnas_tf.train --arch=proxyless_mobile --dataset=folder:photos --run_dir=runs/photos
    python -m pnas_tf.train --flagfile=train.flags --run_dir=runs/mobile   # the paper's recipe
    python -m pnas_tf.train --arch=efficientnet_lite0 --dataset=folder:photos --image_size=96 \
        --run_dir=runs/lite0                      # fine-tunes shipped ImageNet weights

Writes into --run_dir:

    model.keras    the trained network; its layers are Keras' own, so it loads in Keras 3.0 to 3.15
    train.json     test accuracy, the loss and accuracy of each epoch, and the settings
    mistakes.json  accuracy of each class, confused classes, the most mistaken images; shown by pnas_tf.report
    logs/train     loss, accuracy and learning rate for TensorBoard

The same command resumes an interrupted training after its last complete epoch.
"""
