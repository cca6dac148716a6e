"""Figures and the data behind them, against naive loops and closed forms."""

import csv
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dss
from dss.page.figures import (
    comparison_table,
    loss_along_path,
    loss_on_sheet,
    loss_table,
    losses_compared,
    sheet_table,
    string_in_space,
    string_table,
    strings_compared,
    unroll,
)
from dss.page.figures.style import LossColours, log_ticks, number, round_numbers
from dss.page.profile import (
    Metric,
    PathProfile,
    measure_path,
    picture_string,
    picture_strings,
)

BENT = dss.Path(torch.tensor([[-1.0, 0.0], [0.0, 0.8], [1.0, 0.0]], dtype=torch.float64))


@pytest.fixture
def profile():
    bounds = torch.tensor([[1, 0.0, 1.0, 1.7], [0, 0.5, 1.0, 1.9], [0, 0.0, 0.5, 0.9]], dtype=torch.float64)
    metrics = {"judged loss": dss.DoubleWell(), "ring": dss.Ring()}
    return measure_path(BENT, metrics, threshold=1.5, bounds=bounds, evaluations=24)


def test_a_profile_is_the_loss_at_the_places_it_names(profile):
    for arc, loss in zip(profile.arc.tolist(), profile.metrics[0].path.tolist(), strict=True):
        x = 2 * arc - 1
        point = torch.tensor([[x, 0.8 * (1 - abs(x))]], dtype=torch.float64)
        assert loss == pytest.approx(dss.DoubleWell()(point).item())
    for t, loss in zip(profile.straight_arc.tolist(), profile.metrics[0].straight.tolist(), strict=True):
        assert loss == pytest.approx(((2 * t - 1) ** 2 - 1) ** 2)
    assert profile.arc[profile.beads].tolist() == [0, 0.5, 1] and profile.arc.diff().min() > 0


def test_stairs_stand_where_their_cells_are(profile):
    torch.testing.assert_close(
        profile.bounds, torch.tensor([[0, 0.25, 0.9], [0.25, 0.5, 1.9], [0.5, 1, 1.7]], dtype=torch.float64)
    )
    drawn = {trace.name: trace for trace in loss_along_path(profile).data}["proven bound"]
    assert list(drawn.x) == [0, 0.25, 0.25, 0.5, 0.5, 1] and list(drawn.y) == [0.9, 0.9, 1.9, 1.9, 1.7, 1.7]


def test_threshold_and_proof_belong_to_the_judge_alone(profile):
    names = lambda figure: [trace.name for trace in figure.data]  # noqa: E731
    assert "threshold 1.5" in names(loss_along_path(profile)) and "proven bound" in names(loss_along_path(profile))
    assert names(loss_along_path(profile, metric="ring")) == ["straight line", "path", "beads"]


def test_a_bead_above_the_threshold_is_red_and_no_other():
    profile = PathProfile(
        torch.tensor([0.0, 0.5, 1.0]), torch.arange(3), torch.tensor([0.0, 1.0]),
        (Metric("loss", "", torch.tensor([0.1, 0.5, 0.3]), torch.tensor([0.1, 0.3])),), 0.4,
    )  # fmt: skip
    colours = {trace.name: trace for trace in loss_along_path(profile).data}["beads"].marker.color
    assert colours[1] != colours[0] == colours[2]


def test_the_table_of_a_profile_repeats_its_numbers(profile):
    rows = list(csv.DictReader(io.StringIO(loss_table(profile))))
    path = [row for row in rows if row["line"] == "path"]
    assert [float(row["ring"]) for row in path] == profile.metrics[1].path.tolist()
    assert [i for i, row in enumerate(path) if row["bead"] == "1"] == profile.beads.tolist()
    assert len(rows) == len(profile.arc) + len(profile.straight_arc)


def test_strings_in_space_keep_their_distances_and_losses():
    straight = dss.Path.straight(BENT.beads[0], BENT.beads[-1])
    picture = picture_string(BENT, dss.DoubleWell(), threshold=1.5, history=[("round 0", "", straight)], evaluations=16)
    last = picture.strings[-1]
    beads = last.points[last.beads]
    torch.testing.assert_close(torch.cdist(beads, beads), torch.cdist(BENT.beads, BENT.beads))
    torch.testing.assert_close(last.losses[last.beads], dss.DoubleWell()(BENT.beads))
    figure = string_in_space(picture)
    assert len(figure.frames) == 2 and [len(f.data[4].x) for f in figure.frames] == [2, 3]
    assert figure.layout.scene.xaxis.title.text.startswith("axis 1 · ")
    rows = list(csv.DictReader(io.StringIO(string_table(picture))))
    assert [float(row["loss"]) for row in rows] == pytest.approx([0, 0, 0, 1.64, 0])


def test_shadows_lie_on_the_walls_of_the_box():
    picture = picture_string(BENT, dss.DoubleWell(), threshold=1.5)
    figure = string_in_space(picture)
    for trace, letter in zip(figure.data[:3], "xyz", strict=True):
        low, high = figure.layout.scene[f"{letter}axis"].range
        assert np.ptp(trace[letter]) == 0 and 0 < trace[letter][0] - low < 0.01 * (high - low)
    assert not figure.frames and not figure.layout.sliders


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30), st.floats(1e-6, 1e6))
def test_colours_of_positive_losses_are_logarithms_and_ticks_lie_inside(losses, threshold):
    losses = torch.tensor(losses, dtype=torch.float64)
    colours = LossColours.of(losses, threshold)
    low, high = colours.limits()
    places, texts = colours.ticks()
    assert colours.log and low < high and len(places) == len(texts)
    assert all(low <= place <= high for place in places)
    assert np.allclose(colours.values(losses), np.log10(losses.numpy()), atol=1e-6)


def test_losses_of_both_signs_get_linear_colours():
    colours = LossColours.of(torch.tensor([-3.0, 0.0, 2.0]), 1.0)
    assert not colours.log and colours.limits() == (-3, 2)
    assert colours.values(torch.tensor([-3.0, float("inf")])).tolist() == [-3, 2]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
def test_logarithmic_ticks_are_few_positive_and_around_the_values(values):
    ticks = log_ticks([*values, -1.0, 0.0, float("inf"), float("nan")])
    assert 1 <= len(ticks["tickvals"]) == len(ticks["ticktext"]) <= 7
    assert all(0.69 * min(values) <= mark <= 1.41 * max(values) for mark in ticks["tickvals"])
    assert log_ticks([0.0, -2.0]) == {}


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_round_numbers_are_few_and_inside(low, width):
    marks = round_numbers(low, low + width, False)
    assert 1 <= len(marks) <= 7 and all(low - 1e-9 * abs(low) - 1e-9 <= m <= low + width * (1 + 1e-9) + 1e-9 for m in marks)


@pytest.mark.parametrize(
    "value, text",
    [
        (0.4, "0.4"),
        (-40.66433, "−40.66"),
        (12345.6, "12,350"),
        (0.00012345, "0.0001234"),
        (float("inf"), "∞"),
        (float("nan"), "unknown"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert number(value) == text


def test_compared_strings_share_their_axes_and_keep_their_distances():
    other = dss.Path(torch.tensor([[-1.0, 0.0], [0.0, -1.2], [1.0, 0.0]], dtype=torch.float64))
    picture = picture_strings({"up": BENT, "down": other}, dss.DoubleWell(), threshold=1.5)
    beads = torch.cat([strand.points[strand.beads] for strand in picture.strings])
    torch.testing.assert_close(torch.cdist(beads, beads), torch.cdist(*[torch.cat([BENT.beads, other.beads])] * 2))
    named = [trace.name for trace in strings_compared(picture).data if trace.showlegend is None]
    assert named == ["up", "down"]
    profiles = {
        name: measure_path(path, {"loss": dss.DoubleWell()}, threshold=1.5) for name, path in [("up", BENT), ("down", other)]
    }
    drawn = {trace.name: trace for trace in losses_compared(profiles).data}
    assert list(drawn["down"].y) == profiles["down"].metrics[0].path.tolist()
    assert list(drawn["straight line"].y) == profiles["up"].metrics[0].straight.tolist()
    line = {"line": measure_path(dss.Path.straight(BENT.beads[0], BENT.beads[-1]), {"loss": dss.DoubleWell()}, threshold=1.5)}
    assert "straight line" not in [trace.name for trace in losses_compared(profiles | line).data]


def test_the_table_of_a_comparison_names_the_finder_of_every_row(profile):
    rows = list(csv.DictReader(io.StringIO(comparison_table({"one": profile, "two": profile}))))
    alone = list(csv.DictReader(io.StringIO(loss_table(profile))))
    assert rows == [{"finder": name, **row} for name in ("one", "two") for row in alone]


def _scales(figure):
    return {scale["name"]: scale["layout"] for scale in figure.layout.meta["scales"]}


def _flat_profile(path, straight, threshold=0.35):
    arc = torch.linspace(0, 1, len(path), dtype=torch.float64)
    metric = Metric("loss", "", torch.tensor(path, dtype=torch.float64), torch.tensor(straight, dtype=torch.float64))
    return PathProfile(arc, torch.tensor([0, len(path) - 1]), torch.linspace(0, 1, len(straight)), (metric,), threshold)


def test_a_hill_that_dwarfs_the_path_is_cut_with_its_height_written():
    figure = loss_along_path(_flat_profile([0.1, 0.34, 0.1], [0.1, 2.68, 0.1]))
    assert list(_scales(figure)) == ["the lower part", "all of it", "logarithmic"]
    low, high = figure.layout.yaxis.range
    assert low < 0.1 and high == pytest.approx(0.1 + 2 * (0.35 - 0.1))
    (note,) = figure.layout.annotations
    assert note.text == "↑ straight line: up to 2.68" and note.x == 0.5
    assert not _scales(figure)["all of it"]["annotations"]


@pytest.mark.parametrize(
    ("path", "straight", "threshold", "names"),
    [
        ([0.1, 0.3, 0.1], [0.1, 0.5, 0.1], 0.35, ["all of it", "logarithmic"]),  # no hill to speak of
        ([0.1, 9.0, 0.1], [0.1, 9.5, 0.1], 0.35, ["all of it", "logarithmic"]),  # the path itself is as high
        ([-40.6, -41.0, -41.0], [-41.0, 25.0, -41.0], -40.0, ["the lower part", "all of it"]),  # nothing is positive
        ([0.0, 0.3, 0.1], [0.0, 0.5, 0.1], 0.35, ["all of it"]),  # a logarithm would hide the zero
        ([0.1, torch.nan, 0.1], [0.1, torch.nan, 7.0], 0.35, ["the lower part", "all of it", "logarithmic"]),
        ([torch.inf, 0.3, 0.1], [0.1, 9.0, 0.1], 0.35, ["the lower part", "all of it", "logarithmic"]),
    ],
)
def test_scales_are_those_that_make_sense(path, straight, threshold, names):
    assert list(_scales(loss_along_path(_flat_profile(path, straight, threshold)))) == names


def test_a_logarithm_is_drawn_where_it_is_wished_and_possible():
    assert loss_along_path(_flat_profile([0.1, 0.3], [0.1, 0.5]), log=True).layout.yaxis.type == "log"
    assert loss_along_path(_flat_profile([0.0, 0.3], [0.0, 0.5]), log=True).layout.yaxis.type == "linear"


def test_a_scene_has_one_scale_unless_it_is_stretched_and_then_says_by_how_much():
    figure = string_in_space(picture_string(BENT, dss.DoubleWell(), threshold=1.5))
    sides = [np.diff(figure.layout.scene[f"{letter}axis"].range).item() for letter in "xyz"]
    ratio = figure.layout.scene.aspectratio
    np.testing.assert_allclose(np.array([ratio.x, ratio.y, ratio.z]) / ratio.x, np.array(sides) / sides[0])
    stretched = _scales(figure)["axes stretched"]["scene"]
    assert stretched["aspectmode"] == "cube"
    factor = float(stretched["yaxis"]["title"]["text"].split("×")[1])
    assert factor == pytest.approx(sides[0] / sides[1], rel=0.05)


def test_the_sheet_is_the_path_at_one_and_the_line_at_zero():
    path = dss.Path(torch.tensor([[-1.0, 0.0], [-0.5, 0.9], [1.0, 0.0]], dtype=torch.float64))
    judge, sheet = dss.DoubleWell(), unroll(dss.DoubleWell(), path, threshold=1.0, resolution=16)
    arcs = path.arc_lengths()
    assert len(sheet.along) == 25  # the bead is one of them
    assert 0 in sheet.across.tolist() and 1 in sheet.across.tolist() and set(arcs.tolist()) <= set(sheet.along.tolist())
    for u, row in zip(sheet.across.tolist(), sheet.losses, strict=True):
        for s, loss in zip(sheet.along.tolist(), row.tolist(), strict=True):
            first = 0 if s < arcs[1] else 1
            t = (s - arcs[first]) / (arcs[first + 1] - arcs[first])
            on_path = (1 - t) * path.beads[first] + t * path.beads[first + 1]
            on_line = (1 - s) * path.beads[0] + s * path.beads[-1]
            assert loss == pytest.approx(judge(((1 - u) * on_line + u * on_path)[None]).item(), abs=1e-12)
    assert 0.9 / 2 * 0.9 < sheet.widest <= 0.5


@pytest.mark.parametrize("inner", [[0.5], [0.51], [0.02, 0.5], [0.51, 0.512, 0.515], [0.3125, 0.99]])
def test_beads_on_a_sheet_take_the_places_of_those_near_them(inner):
    beads = torch.tensor([[s, 0.001 * (i % 2)] for i, s in enumerate([0.0, *inner, 1.0])], dtype=torch.float64)
    path = dss.Path(beads)
    along, arcs = unroll(dss.DoubleWell(), path, threshold=1.0, resolution=16).along, path.arc_lengths()
    assert along[0] == 0 and along[-1] == 1 and set(arcs.tolist()) <= set(along.tolist())
    gaps = along.diff()
    assert (gaps > 0).all() and gaps.max() <= 1.5 / 24 + 1e-12 and 24 <= len(along) <= 25 + len(inner)


def test_a_sheet_of_a_long_string_is_no_larger_and_a_vertical_bead_is_on_it():
    beads = torch.stack([torch.linspace(-1, 1, 60), 0.3 * torch.linspace(-1, 1, 60).cos()], 1).double()
    sheet = unroll(dss.DoubleWell(), dss.Path(beads), threshold=1.0, resolution=8)
    assert sheet.losses.shape == (len(sheet.across), 17) and len(sheet.beads) == 60


def test_the_sheet_is_drawn_with_the_path_as_a_straight_row_and_its_table_repeats_it():
    sheet = unroll(dss.DoubleWell(), BENT, threshold=1.5, resolution=8)
    figure = loss_on_sheet(sheet)
    (beads,) = (trace for trace in figure.data if trace.name == "path with its beads")
    assert list(beads.x) == [0, 0.5, 1] and set(beads.y) == {1}
    rows = list(csv.reader(io.StringIO(sheet_table(sheet))))[1:]
    assert len(rows) == sheet.losses.numel()
    assert [float(row[2]) for row in rows] == pytest.approx(sheet.losses.flatten().tolist())
