"""The supernet (paper sections 3.1 and 3.2): one sampled path of all candidate ops runs."""
