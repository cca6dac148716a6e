"""The page of a check: may these be averaged?"""

from pathlib import Path as FilePath

from dss._connection import versions
from dss.averaging import Check
from dss.base.files import write_text
from dss.page.figures import averages as figures
from dss.page.figures.style import number
from dss.page.report.render import Drawing, Page, render
from dss.page.report.words import above

# Rows of the table of models.
ROWS = 60


def write_check(check: Check, out: FilePath) -> FilePath:
    """Write the page of a check, replacing the file."""
    write_text(FilePath(out), render(page_of(check)))
    return FilePath(out)


def page_of(check: Check) -> Page:
    """What the page says."""
    names = ", ".join(check.names[:8]) + (f" and {len(check) - 8} more" if len(check) > 8 else "")
    drawings = [_line_drawing(check)] if len(check) == 2 else [_soups_drawing(check)]
    if len(check) > 2 and check.lines:
        drawings.append(_matrix_drawing(check))
    sentence = check.sentence
    return Page(
        title="May these be averaged?",
        about=f"Sets of weights of one network: {names}. Judged by: {check.judge}; an average is safe up to {check.tolerance}.",
        verdict=(_word(check), f"{sentence[0].upper()}{sentence[1:]}."),
        facts={"Key figures": _key_figures(check)},
        drawings=drawings,
        table=_table(check),
        footer="Made with " + ", ".join(f"{name} {version}" for name, version in versions().items()),
    )


def _word(check: Check) -> str:
    """The verdict's colour: green only where the line between two is bounded by a proof."""
    if not check.answer.safe:
        return "failed"
    proven = [line.bracket is not None for line in check.answer.lines.values()]
    return "proven" if len(check) == 2 and all(proven) else "sampled"


def _key_figures(check: Check) -> list[tuple[str, str, str]]:
    rows = [
        ("average of all", number(check.uniform.loss), f"the models have {_span(check)}"),
        ("greedy soup", number(check.greedy.loss), _members(check)),
    ]
    if check.lines:
        (i, j), line = max(check.lines.items(), key=lambda entry: entry[1].rise)
        between = "" if len(check) == 2 or line.rise <= 0 else f", between {check.names[i]} and {check.names[j]}"
        rows += [
            ("rise", number(line.rise), f"the most above the ends' losses interpolated{between}"),
            ("excess", number(line.excess), f"the most above the higher end{between}"),
            ("barrier", number(line.barrier), f"the largest loss seen, at {len(line.t)} points of the line{between}"),
        ]
        if line.bracket is not None:
            rows.append(("proven bound", above(line.bracket.upper), "no point of the line has a larger loss"))
    if check.aligned is not None:
        rise = max((line.rise for line in check.aligned.lines.values()), default=float("nan"))
        rows.append((f"reordered by {check.aligned.align}", number(check.aligned.uniform.loss), f"average; rise {number(rise)}"))
    return rows


def _members(check: Check) -> str:
    count = len(check.greedy.members)
    return "the best model alone: every other makes it worse" if count == 1 else f"{count} models, none of which makes it worse"


def _span(check: Check) -> str:
    return f"{number(check.losses.min().item())} to {number(check.losses.max().item())}"


def _table(check: Check) -> tuple[list[str], list[list[str]]]:
    """Models and soups by every metric."""
    header = ["", "judged loss", *check.metrics]
    rows = [
        [name, *(number(values[i].item()) for values in (check.losses, *check.metrics.values()))]
        for i, name in enumerate(check.names[:ROWS])
    ]
    soups = [("average of all", check.uniform), ("greedy soup", check.greedy)]
    if check.aligned is not None:
        soups.append((f"average, reordered by {check.aligned.align}", check.aligned.uniform))
    rows += [[name, number(soup.loss), *(number(soup.metrics[metric]) for metric in check.metrics)] for name, soup in soups]
    return header, rows


def _line_drawing(check: Check) -> Drawing:
    line = check.lines[0, 1]
    variants = {"judged loss": figures.loss_between(check)} | {name: figures.loss_between(check, name) for name in line.metrics}
    return Drawing(
        name="line",
        title="Loss along the line between the two",
        caption=f"{check.judge[:1].upper() + check.judge[1:]}: at {len(line.t)} weighted averages of the two models, more where the loss "
        "bends. The rise is measured from the ends' losses interpolated (dashed); below the dotted line an average is safe.",
        variants=variants,
        csv=figures.line_table(check),
    )


def _soups_drawing(check: Check) -> Drawing:
    variants = {"models": figures.losses_of_soups(check)}
    if check.aligned is not None:
        variants[f"reordered by {check.aligned.align}"] = figures.losses_of_soups(check.aligned)
    return Drawing(
        name="soups",
        title="Models and their averages",
        caption=f"{check.judge[:1].upper() + check.judge[1:]}, of every model, of the average of all, and of the greedy soup: models from the "
        "best on, each kept if the average with it is not worse.",
        variants=variants,
    )


def _matrix_drawing(check: Check) -> Drawing:
    variants = {"rise": figures.rise_matrix(check), "barrier": figures.rise_matrix(check, "barrier")}
    if check.aligned is not None:
        variants[f"rise, reordered by {check.aligned.align}"] = figures.rise_matrix(check.aligned)
    return Drawing(
        name="matrix",
        title="Straight lines between all pairs",
        caption="The most that the loss rises above the ends' losses, interpolated, on the line of each pair; or the largest loss itself.",
        variants=variants,
        csv=figures.pairs_table(check),
        kind="plane",
    )
