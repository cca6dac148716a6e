"""Progress of what takes more than two seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dss.certificates.bracket import Bracket
from dss.geodesic.shortening import Progress


@contextmanager
def proof_bar() -> Iterator[Callable[[Bracket], None]]:
    """A bar that counts cells and shows the bracket of the path's largest loss."""
    with tqdm(desc="proof", unit=" cells", delay=2) as bar:

        def show(bracket: Bracket) -> None:
            bar.set_postfix_str(f"largest loss between {bracket.seen:.5g} and {bracket.upper:.5g}", refresh=False)
            bar.update(bracket.cells - bar.n)

        yield show


@contextmanager
def shortening_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar that counts rounds of pulling a string tight and shows its length."""
    with tqdm(desc="shorten", unit=" rounds", delay=2) as bar:

        def show(progress: Progress) -> None:
            start = f"start {progress.start + 1} of {progress.starts}, " if progress.starts > 1 else ""
            bar.set_postfix_str(f"{start}{progress.beads} beads, normalized length {progress.length:.4f}", refresh=False)
            bar.update()

        yield show
