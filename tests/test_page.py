"""The page in a real browser: Debian's chromium, headless, with no network."""

import pytest
import torch
from browsing import chromium, opened_page

import dss
from dss.page.report import write_report
from dss.problem import Problem
from dss.runs import RunRecorder, load_run

pytestmark = pytest.mark.skipif(chromium is None, reason="needs a chromium on the PATH (Debian: apt install chromium)")


# Counts the colours of the string as plotly renders it to an image: an empty WebGL scene has a handful.
COLOURS_OF_STRING = """async () => {
  const image = new Image(), canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  image.src = await Plotly.toImage("plot-string", { format: "png", width: 400, height: 300 });
  await image.decode();
  [canvas.width, canvas.height] = [400, 300];
  context.drawImage(image, 0, 0);
  return new Set(new Uint32Array(context.getImageData(0, 0, 400, 300).data.buffer)).size;
}"""


class Height(dss.Objective):
    """A second metric, positive everywhere."""

    description = "squared distance from the origin, plus one"

    def __call__(self, points):
        return points.square().sum(1) + 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search on the Mueller-Brown potential, recorded."""
    judge, folder = dss.MuellerBrown(), tmp_path_factory.mktemp("run") / "ab"
    start, end = torch.tensor(judge.minima[:2], dtype=torch.float64)
    problem, finder = Problem.of(judge, start, end, threshold=-40.5), dss.GreedyString()
    question = {"task": "none", "threshold": -40.5, "ends": ["a.pt", "b<i>.pt"], "parameters": ["x"], "finder": "greedy"}
    recorder = RunRecorder.start(folder, question)
    for step in finder.steps(problem):
        recorder.record(step, problem.tally, 0.0)
    recorder.finish(dss.conclude(problem, finder, step), dss.ParameterSpace(("x",), ((2,),)))
    return load_run(folder)


@pytest.fixture(scope="module")
def report(run):
    return write_report(run, {"judged loss": dss.MuellerBrown(), "height": Height()})


@pytest.fixture(scope="module")
def opened(browser, report):
    """The page, opened once, and the list of its errors and of its requests to a network."""
    page, complaints = opened_page(browser, report)
    yield page, complaints
    page.close()


@pytest.fixture
def page(opened):
    """The page on a laptop's screen; an error on its console or a request to a network fails the test."""
    page, complaints = opened
    page.set_viewport_size({"width": 1280, "height": 900})
    yield page
    assert complaints == []


def test_the_page_is_small_enough_and_says_what_happened(page, report):
    assert report.stat().st_size < 2.5e6
    assert "Connected, as far as samples show" in page.inner_text(".verdict")
    assert "b<i>.pt" in page.inner_text("h1")
    assert page.locator("figcaption").count() == page.locator("figure").count() == 2


def test_figures_are_drawn_and_not_just_boxes(page):
    line = page.locator("#plot-loss .scatterlayer path.js-line").nth(2).get_attribute("d")
    assert line.count("L") > 30
    colours = page.evaluate(COLOURS_OF_STRING)
    assert colours > 300


def test_the_slider_moves_the_string_by_keyboard(page, run):
    rounds = [snapshot.path for snapshot in run.history]
    count = "() => document.getElementById('plot-string')._fullData.at(-2).x.length"
    assert page.evaluate(count) == len(run.path)
    slider = page.locator("#tools-string input")
    slider.press("Home")
    page.wait_for_function(f"{count[6:]} === {len(rounds[0])}")
    assert "no bead between the ends" in page.inner_text("#tools-string output")
    slider.press("ArrowRight")
    page.wait_for_function(f"{count[6:]} === {len(rounds[1])}")


def test_play_runs_to_the_end_and_stops(page, run):
    button, slider = page.locator("#tools-string button").first, page.locator("#tools-string input")
    slider.press("End")
    button.click()
    assert "pause" in button.inner_text() and slider.input_value() != slider.get_attribute("max")
    page.wait_for_selector("#tools-string button:has-text('play')")
    assert slider.input_value() == slider.get_attribute("max")
    assert page.evaluate("document.getElementById('plot-string')._fullData.at(-2).x.length") == len(run.path)


def test_metrics_switch_and_scales_are_those_that_make_sense(page):
    title, kind = (
        "document.getElementById('plot-loss').layout.yaxis.title.text",
        "document.getElementById('plot-loss')._fullLayout.yaxis.type",
    )
    metrics, scales = (page.locator(f"#tools-loss select[aria-label='{label}']") for label in ("what is shown", "scale"))
    assert page.evaluate(title) == "judged loss" and "logarithmic" not in scales.inner_text()
    metrics.select_option(label="height")
    page.wait_for_function(f"{title} === 'height'")
    scales.select_option(label="logarithmic")
    page.wait_for_function(f"{kind} === 'log'")
    assert not any("threshold" in (t or "") for t in page.evaluate("document.getElementById('plot-loss').data.map(t => t.name)"))
    metrics.select_option(label="judged loss")
    page.wait_for_function(f"{kind} === 'linear'")


def test_the_string_is_seen_on_one_scale_until_it_is_stretched(page):
    mode = "document.getElementById('plot-string')._fullLayout.scene.aspectmode"
    assert page.evaluate(mode) == "manual"
    page.locator("#tools-string select").select_option(label="axes stretched")
    page.wait_for_function(f"{mode} === 'cube'")
    assert "stretched ×" in page.evaluate(
        "document.getElementById('plot-string').layout.scene.zaxis.title.text"
    ) or "stretched ×" in (page.evaluate("document.getElementById('plot-string').layout.scene.yaxis.title.text"))
    page.locator("#tools-string select").select_option(label="equal scale")


def test_light_and_dark_change_the_ink_of_the_figures(page):
    ink = "document.getElementById('plot-loss')._fullLayout.font.color"
    before = page.evaluate(ink)
    page.locator("#theme").click()
    page.wait_for_function(f"{ink} !== '{before}'")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function(f"document.querySelector('#plot-loss .main-svg').clientWidth <= {width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    "text, beginning", [("CSV", b"line,arc,bead,judged loss,height\n"), ("SVG", b"<svg"), ("PNG", b"\x89PNG")]
)
def test_figures_can_be_taken_away(page, text, beginning, tmp_path):
    with page.expect_download() as download:
        page.locator("#tools-loss button", has_text=text).click()
    target = tmp_path / "figure"
    download.value.save_as(target)
    assert target.read_bytes().startswith(beginning)
