"""From a searched supernet to the network that is delivered (paper section 3.3)."""
