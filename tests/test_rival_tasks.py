"""The tasks of the comparison: ends get down to where they should, from weights of their own, the same for the same seed."""

import pytest
import torch

from benchmarks.rival_tasks import TASKS, end


@pytest.mark.parametrize(("name", "stop"), [("lstm", 2.3), ("transformer", 2.1), ("resnet", 2.2), ("cubics", 0.5)])
def test_ends_get_down_to_where_they_should_from_weights_of_their_own(name, stop):
    ends = [end(name, seed, stop) for seed in (0, 1, 0)]
    assert torch.equal(ends[0], ends[2]) and not torch.equal(ends[0], ends[1])
    objective, judge = TASKS[name]().objectives()
    assert objective.size == len(ends[0])
    assert (judge(torch.stack(ends)) <= stop * (1 + 1e-6)).all()
