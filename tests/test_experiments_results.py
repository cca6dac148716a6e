"""Results on disk, and their comparison with the paper's points."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

import dss
from experiments import compare, cubic_draws, measurement, polynomials, quadratics
from experiments.polynomials import study_of
from experiments.results import NO_END, Results, connected, fill, mean_and_error, work


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


def test_percents_and_perplexities_become_error_rates_and_cross_entropies():
    assert compare.comparable_points("MNIST", "mnist", "num_beads")[0.00775][0] == pytest.approx(5.67741935)
    assert compare.comparable_points("CIFAR-10", "cifar10", "normalized_length")[0.2][0] == pytest.approx(1.84513447)
    assert compare.comparable_points("Penn Treebank, 10000 words", "ptb", "num_beads")[math.log(135)][0] == 3
    assert compare.comparable_points("King James Bible, 10000 words", "ptb", "num_beads") == {}


def test_a_file_of_results_is_printed_and_drawn_under_its_own_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "HERE", tmp_path)
    monkeypatch.setattr(compare, "paper_points", lambda task, quantity: {})
    results = Results(tmp_path / "mnist-small-fashion-mnist.json", {"data": "Fashion-MNIST"})
    results.add("strict", 0.3, [{"connected": True, "length": 1.25, "beads": 4}])
    compare.show("mnist", results.path)
    assert "| 0.3 | 1/1 | 1.25 ± nan |  |  |" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mnist-small-fashion-mnist-num_beads.html").stat().st_size > 1e6


def test_results_that_are_not_there_are_named(tmp_path):
    with pytest.raises(dss.InputError, match="run the experiment first"):
        compare.load(tmp_path / "none.json")


def test_jobs_of_the_scripts_draw_their_own_data_and_are_compared_by_their_means(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "STRINGS", tmp_path / "runs")
    small = replace(cubic_draws.QUICK, thresholds=(0.3,), pairs=2, samples=40, points=5)
    results = cubic_draws.run(small, 2, tmp_path / "draws.json")
    (records,) = results.records["paper"].values()
    assert [record["job"] for record in records] == [0, 0, 1, 1]
    jobs = [study_of(replace(small, seed=job)) for job in (0, 1)]
    samples = [objective.x for job in jobs for objective in (job.objective, job.judge)]
    assert all(not torch.equal(a, b) for a, b in combinations(samples, 2))
    for job, (constant, mean) in zip(jobs, cubic_draws.job_means(records), strict=True):
        grid = torch.linspace(-0.2, 1.0, 2001, dtype=torch.float64)
        assert constant == pytest.approx((job.judge.y - grid[:, None]).abs().mean(1).min().item(), abs=1e-3)
        own = [r["length"] for r in records if r["best_constant"] == constant]
        assert mean == pytest.approx(np.mean(own))


def test_means_of_jobs_stand_beside_the_papers_points(tmp_path):
    results = Results(tmp_path / "draws.json", {})
    lengths = {0: (1.2, 1.4), 1: (1.6, 1.8)}
    results.add("paper", 0.164, [
        {"job": job, "best_constant": 0.158 + job / 1000, "connected": True, "length": length} for job in lengths for length in lengths[job]
    ])  # fmt: skip
    assert "| 0.164 | 2 | 1.5 ± 0.2 | 1.3 to 1.7 | 1.523 ± 0.065 | 1.00 |" in cubic_draws.table(results)


def doubled(variant, level):
    return [{"connected": True, "variant": variant, "beads": 1, "length": 2 * level}]


def test_work_in_other_processes_is_the_same_and_in_the_same_order(tmp_path, capsys):
    pieces = [("b", 0.2), ("a", 0.2), ("b", 0.1), ("a", 0.1)]
    parts = {piece: partial(doubled, *piece) for piece in pieces}
    stored = []
    with dss.parallel.executor(workers=2, threads=1) as pool:
        for i, executor in enumerate((None, pool)):
            work(Results(tmp_path / f"work-{i}.json", {}), pieces, doubled, label="test", executor=executor)
            fill(Results(tmp_path / f"fill-{i}.json", {}), parts, lambda piece, records: str(piece), executor)
            stored.append([(tmp_path / f"{kind}-{i}.json").read_bytes() for kind in ("work", "fill")])
    assert stored[0] == stored[1] and b'"length":0.4' in stored[0][0]
    assert capsys.readouterr().out.count("4/4") == 2


def test_a_polynomial_measured_in_another_process_has_the_same_records(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "STRINGS", tmp_path)
    small = replace(quadratics.QUICK, name="small", thresholds=(0.1,), pairs=1)
    here = polynomials.run(small, tmp_path / "here.json").records
    with ThreadPoolExecutor(1) as executor:
        there = polynomials.run(small, tmp_path / "there.json", executor).records
    assert here == there and list(here) == ["paper", "strict", "shortened", "bend"]


def test_growth_is_paired_and_its_interval_covers_it():
    """Pairs that one variant lost at one threshold do not count; the rest is arithmetic done by hand."""

    def records(*lengths):
        return [{"connected": length is not None, "length": length} for length in lengths]

    variants = {
        "strict": {0.1: records(1.0, 1.2, 1.1, 1.0, 9.0), 0.01: records(1.4, 2.2, 1.3, None, 9.5)},
        "shortened": {0.1: records(1.0, 1.0, 1.0, 1.0, None), 0.01: records(1.1, 1.4, 1.1, 1.0, 1.0)},
    }
    found = compare.growth(variants, 0.1, 0.01)
    assert (found.pairs, found.strict, found.shortened) == (3, pytest.approx(1.6 / 3), pytest.approx(0.2))
    assert found.kept == pytest.approx(0.375) and found.interval[0] <= found.kept <= found.interval[1]
    assert found.interval == (pytest.approx(0.25), pytest.approx(0.5))  # three pairs: an interval from the lowest to the highest
    with pytest.raises(dss.InputError, match="two pairs"):
        compare.growth({name: {0.1: records(1.0), 0.01: records(1.1)} for name in variants}, 0.1, 0.01)


def test_growth_follows_a_pair_by_its_number_where_another_has_no_end():
    def records(**lengths):
        return [{"pair": int(i[1:]), "connected": True, "length": length} for i, length in lengths.items()]

    variants = {
        "strict": {
            0.1: records(p0=1.0, p1=1.0, p2=1.0),
            0.01: [*records(p0=1.2), {"pair": 1, "status": NO_END}, *records(p2=1.6)],
        },
        "shortened": {0.1: records(p0=1.0, p1=1.0, p2=1.0), 0.01: records(p0=1.1, p2=1.3)},
    }
    found = compare.growth(variants, 0.1, 0.01)
    assert (found.pairs, found.strict, found.shortened) == (2, pytest.approx(0.4), pytest.approx(0.2))
