"""How results show themselves: one line in a shell, a view and a figure in a notebook.

The wings that make results know nothing of figures: `dss.page.notebook` registers what is drawn of each kind.
"""

from functools import singledispatch
from html import escape
from typing import Any

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
    """A result that knows its loss, so that it can be drawn."""

    def figure(self, which: str = "loss") -> Any:
        """A plotly figure: "sheet", "loss" or "string".

        Raises:
            InputError: another name, or nothing to draw.
        """
        return figure_of(self, which)

    def show(self, which: str = "loss") -> None:
        """Show a figure where plotly shows them: in the notebook, or in a browser."""
        self.figure(which).show()
