"""Reference architectures, for experiments, benchmarks and tests; plain `nn.Module`s that know nothing of `dss`."""
