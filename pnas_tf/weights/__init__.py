"""Package data: trained weights that ship with the package. `pnas_tf.network.pretrained` reads them."""
