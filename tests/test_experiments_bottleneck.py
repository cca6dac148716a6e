"""The experiment on walls at small sizes: the explicit path, pairs trained apart, searches on both sides, classifiers."""

import json

import pytest
import torch

import dss
from experiments import bottleneck


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Everything on every sixth image."""
    out, (x, y) = tmp_path_factory.mktemp("bottleneck") / "results.json", bottleneck.images()
    small = {"units": (1, 3), "seeds": 3, "iterations": 200, "kinds": ("linear",), "search_seeds": 2, "rounds": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bottleneck, "images", lambda: (x[::6], y[::6]))
        bottleneck.run(out, **small, networks=3, steps=400)
    return json.loads(out.read_text())["records"], (out, small)


@pytest.mark.parametrize("units", [1, 2, 3, 4, 8])
def test_the_explicit_path_reaches_the_wall_and_no_more(units):
    (record,) = bottleneck.explicit(units)
    assert 0 <= record["above"] <= 1e-9 and record["wall"] > record["best"]


def test_the_explicit_path_is_proved_from_above_as_its_wall_is_from_below():
    path, judge = bottleneck.saddle_path(1, 9), bottleneck.objective("linear", 1)
    found = dss.bracket(judge, path, tolerance=0.02, limits=dss.Limits(seconds=20))
    wall = dss.bottleneck_obstruction(bottleneck.images()[0], 1, output_bias=True)
    assert wall.threshold <= found.upper <= 1.02 * wall.threshold


def test_pairs_trained_apart_are_proved_disconnected_where_their_orientations_differ(results):
    for units in ("1.0", "3.0"):
        (record,) = results[0]["linear autoencoders"][units]
        assert record["below"] == 3 and record["pairs"] == 3
        assert record["proved"] in (0, 2)  # of three signs, none or one differs from the others


def test_no_finder_passes_a_wall(results):
    records = results[0]["searches, linear"]["3.0"]
    behind = [r for r in records if r["separated"] and r["side"] == "below"]
    assert behind and not any(r["connected"] for r in behind) and all(r["barrier_over_wall"] > 1 for r in behind)


def test_all_pairs_of_plane_classifiers_are_disconnected_mirror_images_too(results):
    for record in results[0]["classifiers"]["2.0"]:
        assert record["plain"] == record["mirrored"] == record["pairs"] == 3
        assert max(record["losses"]) < record["threshold"] <= record["plain_lowest_wall"]


def test_a_swap_is_the_same_function_with_the_opposite_orientation():
    point, judge = bottleneck.trained("sigmoid", 2, 0, iterations=20), bottleneck.objective("sigmoid", 2)
    other = bottleneck.swapped("sigmoid", 2, point)
    assert judge(other[None]) == pytest.approx(judge(point[None]), rel=1e-12) and not torch.equal(point, other)
    x, _ = bottleneck.images()
    assert dss.bottleneck_obstruction(x, 2, output_bias=True).between(judge, point, other).proven


def test_what_is_there_is_not_done_again(results, capsys):
    out, small = results[1]
    bottleneck.run(out, **small, networks=3, steps=400)
    assert capsys.readouterr().out == ""
