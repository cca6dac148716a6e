"""How results show themselves: one line in a shell, a view and a figure in a notebook.

The wings that make results know nothing of figures: `dss.page.notebook` registers what is drawn of each kind.
"""

from functools import singledispatch
from html import escape
from typing import Any, ClassVar

from dss.base.errors import InputError


@singledispatch
def html_of(result: object) -> str:
    """What a notebook shows of a result."""
    return f"<pre>{escape(repr(result))}</pre>"


@singledispatch
def figure_of(result: object, which: str) -> Any:
    """A plotly figure of a result, by name.

    Raises:
        InputError: there is none.
    """
    raise InputError(f"a {type(result).__name__} alone has nothing to draw: a figure needs the loss; see dss.figures")


class Shown:
    """A result that notebooks show."""

    def _repr_html_(self) -> str:
        return html_of(self)


class Drawn(Shown):
    """A result that knows its losses, so that it can be drawn."""

    # What is drawn if nothing is named.
    drawn: ClassVar[str] = "loss"

    def figure(self, which: str | None = None) -> Any:
        """A plotly figure by name: of a connection "loss", "sheet" or "string", of a check "loss" or "rise", of a merge tree
        "tree", "barriers" or "components"; the first of them if none is named.

        Raises:
            InputError: another name, or nothing to draw.
        """
        return figure_of(self, which or self.drawn)

    def show(self, which: str | None = None) -> None:
        """Show a figure where plotly shows them: in the notebook, or in a browser."""
        self.figure(which).show()
