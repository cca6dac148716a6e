"""The tables of the pages are those of the committed JSON, and say what is in it."""

import json
import math
from pathlib import Path
from statistics import mean

import pytest

from benchmarks import disconnection, proof, tables, verifiers
from experiments import panels
from experiments.results import NO_END

ROOT = Path(__file__).parents[1]


def test_every_drawn_page_is_what_the_files_give():
    for page, text in tables.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: run python -m benchmarks.tables"


def test_every_file_of_benchmarks_says_where_it_was_measured_on_the_page_too():
    overview = tables.OVERVIEW.read_text(encoding="utf-8")
    for file in (ROOT / "benchmarks").glob("*.json"):
        stored = json.loads(file.read_text(encoding="utf-8"))
        assert {"torch", "python", "processor", "cores", "threads"} <= stored["environment"].keys(), file.name
        assert f"| {file.stem} |" in overview


def test_the_papers_page_has_a_place_for_every_panel_that_is_small_or_done():
    assert {"quadratics", "cubics", "counterexample", "mnist-small-fashion-mnist"} <= tables.shown()


def cells(table: str, first: str) -> list[str]:
    """The cells of the first row that begins so."""
    row = next(line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_row_of_the_polynomials_is_the_mean_over_connected_pairs():
    stored = json.loads((ROOT / "experiments" / "quadratics.json").read_text(encoding="utf-8"))["records"]
    lengths = [record["length"] for record in stored["paper"]["0.0025"] if record["connected"]]
    row = cells(panels.polynomials_table("quadratics"), "0.0025")
    assert row[1] == f"{len(lengths)}/{len(stored['paper']['0.0025'])}"
    assert row[2].startswith(f"{mean(lengths):.4g} ± ")


def test_a_row_of_a_network_tells_few_values_and_averages_many(tmp_path):
    records = [{"connected": True, "length": 1 + i / 10, "beads": 3, "max_loss": 0.1} for i in range(4)]
    file = tmp_path / "mnist-x.json"
    stored = {
        "settings": {"data": "x"},
        "records": {"paper": {"0.2": records[:2]}, "strict": {"0.2": [*records, {"status": NO_END}]}},
    }
    file.write_text(json.dumps(stored), encoding="utf-8")
    few, many = panels.network_table(file).splitlines()[2:]
    assert "| 1.0000, 1.1000 | 3, 3 | 0.100, 0.100 |" in few
    assert "| 4/4 | 1.1500 ± 0.065 |" in many


def test_perplexities_are_those_of_the_losses():
    file = ROOT / "experiments" / "ptb-small-king-james-bible.json"
    record = json.loads(file.read_text(encoding="utf-8"))["records"]["paper"][repr(math.log(300))][0]
    assert cells(panels.network_table(file), "300")[-1] == f"{math.exp(record['max_loss']):.0f}"


@pytest.mark.parametrize(("proven", "barrier", "expected"), [([3.0, 2.2], 1.7, "2.2 | 1.70"), ([], 3.25, "none | 3.25")])
def test_the_lowest_factor_is_the_last_that_was_proved(proven, barrier, expected):
    tried = [{"factor": f, "proven": f in proven, "barrier_over_exact": barrier} for f in (0.99, 1.8, 2.2, 3.0)]
    assert panels.lowest({"1": tried}) == expected


def test_the_medians_of_disconnection_are_over_all_pairs():
    results = json.loads(disconnection.FILE.read_text(encoding="utf-8"))["results"]
    row = results["disconnection"]["0.06 / greedy"]
    assert row["lengths"] == [], "no path joins the copies below 1/12"
    assert cells(disconnection.pages_of(results)["disconnection"], "0.06 | greedy")[2] == f"0/{row['pairs']}"


def test_what_is_not_proved_is_told_as_a_share():
    row = {
        "params": 9,
        "samples": 5,
        "segments": 2,
        "grid s": 0.1,
        "cells": 7,
        "proof s": 60.0,
        "verdict": "SECONDS",
        "proved": 0.5,
    }
    assert proof.pages_of({"proofs": {"lstm": row}})["proofs"].endswith("| 7 | 60 | 50% of the path proved |")


def test_ours_is_measured_wherever_theirs_is():
    results = json.loads(verifiers.FILE.read_text(encoding="utf-8"))["results"]["verifiers"]
    for key, row in results.items():
        assert results[f"{key.rpartition(' / ')[0]} / ours"]["path"] == row["path"], key
