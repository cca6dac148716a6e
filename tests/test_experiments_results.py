"""Results on disk, and their comparison with the paper's points."""

import json
import math

import numpy as np
import pytest

import dss
from experiments import compare
from experiments.results import Results, connected, mean_and_error, work


def test_results_of_other_settings_are_not_continued(tmp_path):
    out = tmp_path / "r.json"
    Results(out, {"seed": 0}).add("a", 0.1, [{"connected": True}])
    assert Results(out, {"seed": 0}).has("a", 0.1)
    with pytest.raises(dss.InputError, match="seed"):
        Results(out, {"seed": 1})


def test_work_does_what_is_left_and_keeps_it_ordered_by_threshold(tmp_path, capsys):
    results = Results(tmp_path / "r.json", {})
    pieces = [("a", 0.2), ("a", 0.1)]
    results.add("a", 0.2, [])
    work(results, pieces, lambda variant, level: [{"connected": True, "beads": 3, "length": level}], label="test")
    assert capsys.readouterr().out.count("1/1") == 1
    stored = json.loads((tmp_path / "r.json").read_text())["records"]["a"]
    assert list(stored) == ["0.1", "0.2"] and stored["0.1"][0]["length"] == 0.1


def test_means_and_errors_are_those_of_numpy_over_connected_pairs():
    records = [{"connected": True, "length": v} for v in (1.0, 1.5, 2.5)] + [{"connected": False}]
    values = connected(records, "length")
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(np.mean(values)) and error == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert math.isnan(mean_and_error([1.0])[1]) and math.isnan(mean_and_error([])[0])


def test_means_are_compared_with_the_papers_points_and_their_bars():
    records = {0.01: [{"connected": True, "beads": 13}, {"connected": True, "beads": 15}, {"connected": False}]}
    paper = compare.paper_points("quadratics", "num_beads")
    assert len(paper) == 10 and paper[0.01] == (13.83, 1.38495)
    (row,) = compare.rows(records, "beads", paper)
    assert (row.pairs, row.connected, row.mean, row.error, row.agrees) == (3, 2, 14, 1, True)
    (far,) = compare.rows({0.01: [{"connected": True, "beads": b} for b in (20, 21)]}, "beads", paper)
    assert far.agrees is False
    assert compare.rows({0.011: records[0.01]}, "beads", paper)[0].agrees is None
    assert "| 0.01 | 2/3 | 14 ± 1 | 13.83 ± 1.4 | yes |" in compare.table([row])


def test_the_figure_has_the_papers_points_only_beside_the_papers_data():
    variants = {"paper": {0.1: [{"connected": True, "length": 1.2}, {"connected": True, "length": 1.4}]}}
    ours = compare.figure("quadratics: 200 points", variants, "quadratics", "normalized_length")
    assert [trace.name for trace in ours.data] == ["Freeman & Bruna 2017", "paper, ours"]
    assert list(ours.data[1].y) == [pytest.approx(1.3)] and list(ours.data[1].error_y.array) == [pytest.approx(0.1)]
    other = compare.figure("Fashion-MNIST", variants, "mnist", "normalized_length")
    assert [trace.name for trace in other.data] == ["paper, ours"]


def test_results_that_are_not_there_are_named(tmp_path):
    with pytest.raises(dss.InputError, match="run the experiment first"):
        compare.load(tmp_path / "none.json")
