"""The supernet (paper sections 3.1 and 3.2): a network with all candidate ops, of which only one sampled path runs."""
