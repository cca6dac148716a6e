"""The global random generators, under a seed for a while."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random`; afterwards they go on as if nothing had been drawn."""
    # Only where CUDA is in use already: asking for its state would start it.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    ours, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpys)
