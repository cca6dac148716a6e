"""The field's known results in one table, beside what was published: `python -m experiments.headlines`, minutes on two cores.

Every row is measured by `experiments.headline_rows` on small networks and scikit-learn's digits, so that anybody can run all of
them; the published ones are of larger networks and data. Results go to `headlines.json` as they come, and what is there is not
measured again; `--draw` draws the table of `docs/headlines.md` from the file.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import dss
from benchmarks.records import Record, Records, as_table, figure, redrawn
from experiments.headline_rows import FULL, QUICK, rows
from experiments.workers import add_workers, executor_of

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "headlines.md"
Parts = Mapping[str, Record]
Row = tuple[str, str, str, str]

ONE_ORDER = (
    "conjectured: no barrier once units are reordered ([Entezari et al. 2022](https://arxiv.org/abs/2110.06296)); found: none between "
    "wide ResNets on CIFAR-10 ([Ainsworth et al. 2023](https://arxiv.org/abs/2209.04836))"
)
STABLE = "no barrier from the start (MNIST), or from early in training (ImageNet) ([Frankle et al. 2020](https://arxiv.org/abs/1912.05671))"
BASIN = "fine-tuned from one: one basin; from scratch: a barrier ([Neyshabur et al. 2020](https://arxiv.org/abs/2008.11687))"
FLAT = "loss and accuracy nearly constant along both curves ([Garipov et al. 2018](https://arxiv.org/abs/1802.10026))"
SADDLES = "ResNet-20 on CIFAR-10: minima .0162, saddles .0324, 2.0 times as high ([Draxler et al. 2018](https://arxiv.org/abs/1803.00885))"
DROPOUT = "the change vanishes as networks grow, and with it the barrier ([Shevchenko & Mondelli 2020](https://arxiv.org/abs/1912.10095))"
SOUPS = "ViT-G on ImageNet: 9.22 % best single, 9.06 % greedy soup ([Wortsman et al. 2022](https://arxiv.org/abs/2203.05482))"
SPREAD = "AutoNEB: .5 to 1.5 over repeats (the authors of LLPF)"
HEAD = ("result", "published", "here", "proved here")


def percent(share: float) -> str:
    """An error rate."""
    return f"{100 * share:.1f} %"


def proved(lines: Sequence[Record], what: str) -> str:
    """Of how many the largest loss is known from both sides."""
    closed = sum(line["proved"] for line in lines)
    return f"{'all' if closed == len(lines) else f'{closed} of'} {len(lines)} {what}, from both sides"


def _risen(found: Record) -> str:
    """Rises of some lines: of the loss, and of the test error."""
    return f"{figure(found['rise'])} (error +{percent(median(line['test error rise'] for line in found['pairs']))})"


def _width(parts: Parts) -> list[Row]:
    return [
        (
            f"rise of the line between networks trained apart, width {width}", ONE_ORDER,
            f"{_risen(r['trained'])} as trained, {_risen(r['aligned'])} reordered",
            proved([*r["trained"]["pairs"], *r["aligned"]["pairs"]], "lines"),
        )
        for width, r in parts.items()
    ]  # fmt: skip


def _orders(parts: Parts) -> list[Row]:
    return [
        (f"rise of the line between two data orders after {shared} shared steps", STABLE, _risen(r), proved(r["pairs"], "lines"))
        for shared, r in parts.items()
    ]


def _tuned(parts: Parts) -> list[Row]:
    return [(f"rise of the line between two {how}", BASIN, _risen(r), proved(r["pairs"], "lines")) for how, r in parts.items()]


def _curves(parts: Parts) -> list[Row]:
    found = []
    for name, r in parts.items():
        (low, high), (least, most) = r["train loss"], r["test error"]
        here = f"train loss {figure(low)} to {figure(high)}, test error {percent(least)} to {percent(most)}"
        bound = f"train loss at most {figure(r['largest']['upper'], up=True)} at every point"
        found.append((f"least and most along a path: {name}, {r['beads']} beads", FLAT, here, bound))
    return found


def _tree(parts: Parts) -> list[Row]:
    return [
        (
            f"minima and saddles of the spanning tree over {count} networks", SADDLES,
            f"minima {figure(r['mean minimum'])}, saddles {figure(r['mean saddle'], up=True)}, "
            f"{r['mean saddle'] / r['mean minimum']:.2f} times as high, in {r['searches']} searches",
            "every saddle, from above" if r["proved"] else "not every saddle",
        )
        for count, r in parts.items()
    ]  # fmt: skip


def _dropout(parts: Parts) -> list[Row]:
    found = []
    for width, r in parts.items():
        known = [rise for rise in r["written path"] if rise is not None]
        bound = (
            f"a path written down so rises by at most {figure(max(known), up=True)} ({len(known)} pairs)" if known else "nothing"
        )
        found.append((f"change of the loss when half the units go, width {width}", DROPOUT, figure(r["change"][0]), bound))
    return found


def _soup(parts: Parts) -> list[Row]:
    return [
        (
            f"soups of {count} fine-tuned networks, test error", SOUPS,
            f"{percent(r['best'])} best single, {percent(r['uniform'])} uniform, {percent(r['greedy'])} greedy (of {r['members']})",
            f"{proved(r['lines']['pairs'], 'lines between them')}; their median rise is {figure(r['lines']['rise'], up=True)}",
        )
        for count, r in parts.items()
    ]  # fmt: skip


def _repeats(parts: Parts) -> list[Row]:
    found = []
    for name, r in parts.items():
        times = [end / r["runs"][0]["worse end"] for end in (r["least"], r["most"])]
        here = f"{figure(r['least'])} to {figure(r['most'])} ({times[0]:.2f} to {times[1]:.2f} times the worse end's), "
        found.append(
            (
                f"largest loss of a path by `{name}`, {len(r['runs'])} seeds on one pair", SPREAD if name == "band" else "",
                f"{here}connected {r['connected']} of {len(r['runs'])}", proved(r["runs"], "paths"),
            )
        )  # fmt: skip
    return found


DRAWN: Mapping[str, Callable[[Parts], list[Row]]] = {
    "width": _width, "orders": _orders, "tuned": _tuned, "curves": _curves, "tree": _tree, "dropout": _dropout, "soup": _soup,
    "repeats": _repeats,
}  # fmt: skip


def table(results: Mapping[str, Parts]) -> str:
    """What was measured, in the order of the page; of rows that share a published result the first shows it."""
    found, before = [], ""
    for name, draw in DRAWN.items():
        for result, published, here, bound in draw(results.get(name, {})):
            found.append((result, "as above" if published and published == before else published, here, bound))
            before = published
    return as_table(HEAD, found)


def pages_of(results: Mapping[str, Parts]) -> dict[str, str]:
    """The tables of the page."""
    return {"headlines": table(results)}


def main() -> None:
    """Measure what is not in the file, print the table, and draw the page if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks, seconds; give --out too")
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file (default: %(default)s)")
    parser.add_argument(
        "--draw", action="store_true", help="draw the table of docs/headlines.md from the file, and measure nothing"
    )
    add_workers(parser)
    options = parser.parse_args()
    if options.quick and options.out == FILE:
        parser.error("--quick needs --out FILE: its figures are no results")
    records = Records(options.out)
    if options.draw:
        PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8"), pages_of(records.results)), encoding="utf-8")
        return
    left = [
        (name, key, work)
        for name, parts in rows(QUICK if options.quick else FULL).items()
        for key, work in parts.items()
        if not records.has(name, key)
    ]
    with executor_of(options) as executor:
        for number, found in dss.parallel.as_done(executor, [work for *_, work in left]):
            records.add(*left[number][:2], found)
            print(*left[number][:2], flush=True)
    print(table(records.results))


if __name__ == "__main__":
    main()
