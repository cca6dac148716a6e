"""A page as one HTML file that needs no network: plotly once, the data once, everything escaped."""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dss.page.report.words import Fact

# Nothing from outside, whatever a name in the data says: no request leaves the page. Plotly compiles the code of its
# three-dimensional scenes, and draws images into blobs that are saved.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure of the page.

    Attributes:
        name: short, for files and anchors.
        title: its heading.
        caption: what it shows and on which data.
        variants: the figure, under each name that the reader may switch to; each may have scales to switch between
            (`dss.page.figures.scales`).
        moments: `(name, note)` of every frame of the first variant.
        csv: its data.
        kind: "flat", "space", "plane" or "sheet": how tall it is.
    """

    name: str
    title: str
    caption: str
    variants: Mapping[str, go.Figure]
    moments: Sequence[tuple[str, str]] = ()
    csv: str = ""
    kind: str = "flat"


@dataclass(frozen=True, eq=False)
class Page:
    """What a page says.

    Attributes:
        title, about: the heading, and a line under it.
        verdict: a word for the colour, and the sentence; or None.
        facts: groups of `(name, value, explanation)` by title; the first stands without it, the last is folded away.
        drawings: the figures.
        table: a header and rows, or None.
        missing: sentences on what could not be shown.
        footer: versions.
        subject: a digest of what the page is about, so that a page of something else can be told.
    """

    title: str
    about: str
    verdict: tuple[str, str] | None = None
    facts: Mapping[str, Sequence[Fact]] = field(default_factory=dict)
    drawings: Sequence[Drawing] = ()
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    missing: Sequence[str] = field(default=())
    footer: str = ""
    subject: str = ""


def render(page: Page) -> str:
    """The HTML of a page."""
    data = {"name": "dss", "figures": [_drawing_data(drawing) for drawing in page.drawings]}
    parts = [_verdict(page), _missing(page), _facts(page), _table(page), *map(_drawing_html, page.drawings)]
    return Template(_asset("page.html")).substitute(
        policy=POLICY,
        subject=escape(page.subject),
        title=escape(page.title),
        about=escape(page.about),
        body="\n".join(parts),
        footer=escape(page.footer),
        style=_asset("page.css"),
        script=_asset("page.js"),
        plotly=_packed_plotly(),
        data=json_for_html(data),
    )


@cache
def _packed_plotly() -> str:
    """Plotly's script, compressed to less than half of what a page would weigh otherwise; browsers unpack it themselves."""
    return b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=5, mtime=0)).decode()


def json_for_html(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("dss.page.report").joinpath(name).read_text(encoding="utf-8")


def _drawing_data(drawing: Drawing) -> dict:
    variants = [{"name": name, "figure": _plain(figure)} for name, figure in drawing.variants.items()]
    first = next(iter(drawing.variants.values()))
    frames = [
        {"name": name, "note": note, "data": frame["data"]}
        for (name, note), frame in zip(drawing.moments, json.loads(first.to_json() or "{}").get("frames", ()), strict=True)
    ]
    return {"id": drawing.name, "variants": variants, "frames": frames or None, "csv": drawing.csv}


def _plain(figure: go.Figure) -> dict:
    """Data and layout as JSON values; frames travel apart."""
    parts = json.loads(figure.to_json() or "{}")
    return {"data": parts["data"], "layout": parts["layout"]}


def _verdict(page: Page) -> str:
    if page.verdict is None:
        return ""
    word, sentence = page.verdict
    return f'<section class="verdict {escape(word)}" role="status"><p>{escape(sentence)}</p></section>'


def _missing(page: Page) -> str:
    return f'<p class="missing">{escape(" ".join(page.missing))}</p>' if page.missing else ""


def _facts(page: Page) -> str:
    """The first group as cards, the others behind their titles."""
    groups = [(title, _cards(facts)) for title, facts in page.facts.items() if facts]
    more = (
        f"<details{'' if i == len(groups) - 1 else ' open'}><summary>{escape(title)}</summary>{cards}</details>"
        for i, (title, cards) in enumerate(groups)
        if i
    )
    return "".join(cards for _, cards in groups[:1]) + "".join(more)


def _cards(facts: Sequence[Fact]) -> str:
    rows = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>" for name, value, note in facts
    )
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _table(page: Page) -> str:
    if page.table is None:
        return ""
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in page.table[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in page.table[1])
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _drawing_html(drawing: Drawing) -> str:
    name = escape(drawing.name)
    height = "" if drawing.kind == "flat" else f" {drawing.kind}"
    return (
        f'<figure id="{name}" aria-labelledby="title-{name}"><h2 id="title-{name}">{escape(drawing.title)}</h2>'
        f'<div class="tools" id="tools-{name}"></div>'
        f'<div class="plot{height}" id="plot-{name}" role="img" aria-label="{escape(drawing.title)}"></div>'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )
