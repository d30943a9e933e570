"""Hot arithmetic on bare tensors, the plain reference beside every fused form."""
