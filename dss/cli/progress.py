"""Progress of what takes more than two seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dss.proof import Bracket


@contextmanager
def proof_bar() -> Iterator[Callable[[Bracket], None]]:
    """A bar that counts cells and shows the bracket of the path's largest loss."""
    with tqdm(desc="proof", unit=" cells", delay=2) as bar:

        def show(bracket: Bracket) -> None:
            bar.set_postfix_str(f"largest loss between {bracket.seen:.5g} and {bracket.upper:.5g}", refresh=False)
            bar.update(bracket.cells - bar.n)

        yield show
