"""Package data: data sets that ship with the package. `pnas_tf.data` reads them."""
