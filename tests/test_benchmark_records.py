"""Measured figures: kept in a file that is gone on with, and the pages' tables are those of the files."""

import json

import pytest

import dss
from benchmarks import rivals, symmetry
from benchmarks.records import Records, figure, redrawn
from experiments import headlines


def test_a_file_is_gone_on_with_and_says_where_it_was_measured(tmp_path):
    file = tmp_path / "figures.json"
    Records(file).add("lines", "a / 0", {"x": 1.5})
    again = Records(file)
    assert again.has("lines", "a / 0") and not again.has("lines", "a / 1") and not again.has("planes", "a / 0")
    again.add("planes", "b", {"y": None})
    content = json.loads(file.read_text())
    assert content["results"] == {"lines": {"a / 0": {"x": 1.5}}, "planes": {"b": {"y": None}}}
    assert content["environment"]["dss"] == dss.__version__ and content["environment"]["threads"] >= 1
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def test_figures_of_another_machine_are_not_mixed_in(tmp_path):
    file = tmp_path / "figures.json"
    Records(file).add("lines", "a", {"x": 1.5})
    file.write_text(file.read_text().replace('"cores": ', '"cores": 9'))
    with pytest.raises(dss.InputError, match=r"was measured elsewhere \(cores 9"):
        Records(file).add("lines", "b", {"x": 2.5})
    assert not Records(file).has("lines", "b")


def test_tables_go_between_their_marks_and_nowhere_else():
    page = "a\n<!-- t, drawn by us -->\nold\n<!-- end of t -->\nb\n<!-- u, drawn by us -->\n<!-- end of u -->\n"
    drawn = redrawn(page, {"t": r"new \1"})
    assert drawn == page.replace("\nold\n", "\n\nnew \\1\n\n") and redrawn(drawn, {"t": r"new \1"}) == drawn
    with pytest.raises(dss.InputError, match="no place for the table 'v'"):
        redrawn(page, {"v": ""})


def test_what_is_proved_is_not_rounded_away():
    assert [figure(0.2143), figure(0.2143, up=True), figure(0.2149, up=False)] == [".214", ".215", ".214"]
    assert [figure(1.6919, up=False), figure(12.341, up=True), figure(-0.0004)] == ["1.69", "12.4", "-.000"]
    assert [figure(0.0), figure(1234.0, up=True)] == [".000", "1234"]


def test_the_table_of_headlines_is_that_of_its_file():
    page = headlines.PAGE.read_text(encoding="utf-8")
    assert redrawn(page, headlines.pages_of(Records(headlines.FILE).results)) == page


def test_acceptance_of_alignment_is_in_the_figures():
    """What the figures must show: planted orders always restored, .02 at width 256, under a second, below naive on all pairs."""
    found = Records(symmetry.FILE).results
    assert all(r["weights"] == r["activations"] == r["seeds"] == 20 for r in found["planted"].values())
    assert found["planted"].keys() == symmetry.PLANTED.keys()
    assert max(r["weights"] for key, r in found["widths"].items() if key.startswith("256 ")) <= 0.02
    every = {**found["widths"], **found["pairs"]}
    assert len(every) == 5 * (len(symmetry.MLPS) + len(symmetry.OTHERS))
    assert all(r["weights"] < r["trained"] for r in every.values())
    assert all(r["upper"] is not None and r["upper"] <= r["threshold"] for r in found["proved"].values())


def test_ratios_of_rivals_are_taken_pair_by_pair_and_the_best_chain_is_that_of_the_pair():
    def row(first, end, length, found=True):
        return {"first, s": first, "end, s": end, "length": length, "found": found}

    rows = {
        "0 / bend": row(1.0, 2.0, 1.1), "0 / chain, rate x1": row(4.0, 4.0, 1.2), "0 / chain, rate x5": row(2.0, 2.0, 1.6),
        "1 / bend": row(1.0, 2.0, 1.1), "1 / chain, rate x1": row(4.0, 4.0, 1.2), "1 / chain, rate x5": row(1.0, 1.0, 1.5, found=False),
        "2 / chain, rate x1": row(9.0, 9.0, 1.2),
    }  # fmt: skip
    lines = rivals.pages_of({"t at 1": rows})["ratios"].splitlines()
    assert lines[2] == "| t at 1 | chain, rate x1 | 2 | 0.25 (0.25 to 0.25) | 0.50 (0.50 to 0.50) | -0.10 (-0.10 to -0.10) |"
    assert lines[3] == "| t at 1 | chain, rate x5 | 1 | 0.50 | 1.00 | -0.50 |"
    assert lines[4] == "| t at 1 | the best chain | 2 | 0.38 (0.31 to 0.44) | 0.75 (0.62 to 0.88) | -0.30 (-0.40 to -0.20) |"
    assert "| chain, rate x5 | 1/2 | 2.00 | 2.00 |" in rivals.pages_of({"t at 1": rows})["rivals"]
