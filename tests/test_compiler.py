"""Gradients without torch's compiler, which is there for whoever asks for it."""

import subprocess
import sys

PULLED = """
import sys
import torch
from dss.base.compiler import without_compiler
with without_compiler():
    print(torch.func.grad(lambda x: (x * x).sum())(torch.tensor([1.0, -2.0])).tolist())
print("torch._dynamo" in sys.modules)
print("reset" in dir(torch._dynamo))
with without_compiler():
    print(torch._dynamo is sys.modules["torch._dynamo"])
"""

ASKED = """
import sys
import torch
from dss.base.compiler import without_compiler
with without_compiler():
    print(torch._dynamo.reset.__module__)
    print(torch._dynamo is sys.modules["torch._dynamo"])
print(torch._dynamo is sys.modules["torch._dynamo"])
"""


def said(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_gradient_imports_no_compiler_which_is_found_afterwards():
    assert said(PULLED) == ["[2.0, -4.0]", "False", "True", "True"]


def test_whoever_asks_for_the_compiler_within_it_gets_it():
    assert said(ASKED) == ["torch._dynamo", "True", "True"]
