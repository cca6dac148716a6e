"""Every page that a command writes, in a real browser: every button pressed, every choice made, nothing complained of."""

import pytest
import torch
from browsing import chromium, opened_page

import dss
from dss.cli import main

pytestmark = [
    pytest.mark.skipif(chromium is None, reason="needs a chromium on the PATH (Debian: apt install chromium)"),
    pytest.mark.slow,
]

TASK = """
import torch
from torch import nn
import dss

class Hill(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-1.0, 0.0]))

    def forward(self, x):
        across, along = self.weight[1], self.weight[0]
        return x * (0.1 + 5 * (along ** 2 - 1) ** 2 * torch.exp(-9 * across ** 2) + 0.05 * across ** 2)

def task():
    x = torch.ones(4, 1)
    return dss.Task(Hill(), lambda output, target: (output - target).mean(), (x, 0 * x), name="hill")
"""


OFFERED = """() => {
  window.offered = [];
  HTMLAnchorElement.prototype.click = function () { window.offered.push(this.download); };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with one page of each kind, as the commands write them."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "hill.py").write_text(TASK)
    weights = {"a": [-1.0, 0.0], "b": [1.0, 0.01], "c": [0.0, 0.9], "d": [0.4, 1.0]}
    for name, weight in weights.items():
        torch.save({"weight": torch.tensor(weight, dtype=torch.float64)}, folder / f"{name}.pt")
    a, b, c, d = (str(folder / f"{name}.pt") for name in weights)
    task = ["--task", f"{folder}/hill.py:task"]
    goal = [*task, "--threshold", "0.3"]
    assert main(["connect", a, b, *goal, "--margin", "0.1", "--out", str(folder / "run")]) == 0
    assert main(["show", str(folder / "run"), "--no-open", "--plane", "8"]) == 0
    assert main(["plane", a, b, c, *goal, "--resolution", "8", "--out", str(folder / "plane.html")]) == 0
    finders = ["--finders", "straight", "greedy"]
    assert main(["compare", a, b, *goal, *finders, "--out", str(folder / "all")]) == 0
    assert main(["tree", a, b, c, d, *task, "--out", str(folder / "tree"), "--prove", "never"]) == 0
    return {
        "run": folder / "run" / "report.html",
        "plane": folder / "plane.html",
        "compare": folder / "all" / "compare.html",
        "tree": folder / "tree" / "report.html",
    }


@pytest.mark.parametrize("kind", ["run", "plane", "compare", "tree"])
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_every_button_works_on_every_page(browser, pages, kind, width, theme):
    page, complaints = opened_page(browser, pages[kind], width=width, color_scheme=theme)
    for choice in page.locator(".tools select").all():
        for option in choice.locator("option").all():
            choice.select_option(value=option.get_attribute("value"))
    # A browser stops a page that downloads a dozen files; what is offered is counted here, real files are tests/test_page.py's.
    page.evaluate(OFFERED)
    offers = 0
    for button in page.locator(".tools button").all():
        offers += button.inner_text() in ("PNG", "SVG", "CSV")
        button.click()
        page.wait_for_function(f"window.offered.length === {offers}")
    for summary in page.locator("summary").all():
        summary.click()
    before = page.evaluate("document.documentElement.dataset.theme")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != before == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()


def test_the_page_of_a_run_shows_the_sheet_first_and_says_that_the_plane_does_not_hold_the_path(browser, pages):
    page, complaints = opened_page(browser, pages["run"])
    assert [figure.get_attribute("id") for figure in page.locator("figure").all()] == ["sheet", "loss", "string", "plane"]
    assert page.locator("#plot-sheet .contourlayer path").count() > 5
    assert page.locator("#plane figcaption").inner_text().startswith("The path ")
    assert "up to 5.1" in page.locator("#plot-loss .annotation").first.text_content()
    cards = page.locator("dl.facts").all()
    assert "threshold" in cards[0].inner_text() and "Hill" in cards[1].inner_text() and not cards[2].is_visible()
    assert complaints == []
    page.close()


@pytest.mark.parametrize("which", ["sheet", "loss", "string", "plane"])
def test_a_figure_as_a_page_of_its_own_is_drawn(browser, pages, which, tmp_path):
    file = tmp_path / "figure.html"
    assert main(["figure", str(pages["run"].parent), "--which", which, "--resolution", "8", "--out", str(file)]) == 0
    complaints = []
    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert complaints == []
    page.close()


def test_images_for_a_paper_have_its_width_and_its_fonts(pages, tmp_path):
    file = tmp_path / "loss.svg"
    assert main(["figure", str(pages["run"].parent), "--which", "loss", "--width", "column", "--out", str(file)]) == 0
    text = file.read_text()
    assert 'width="317"' in text and "Helvetica" in text and "threshold" in text


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_the_growth_of_a_string_is_a_film_with_a_picture_per_moment(pages, tmp_path, ending):
    imageio, ffmpeg = pytest.importorskip("imageio.v3"), pytest.importorskip("imageio_ffmpeg")
    file, run = tmp_path / f"grow{ending}", dss.runs.load_run(pages["run"].parent)
    assert main(["figure", str(run.folder), "--which", "string", "--width", "301", "--out", str(file)]) == 0
    moments = len({snapshot.path.beads.numpy().tobytes() for snapshot in run.history})
    count = len(imageio.imread(file)) if ending == ".gif" else ffmpeg.count_frames_and_secs(str(file))[0]
    assert count >= moments > 1


def test_films_of_other_figures_and_tiny_images_are_refused(pages, tmp_path, capsys):
    run = str(pages["run"].parent)
    assert main(["figure", run, "--which", "loss", "--out", str(tmp_path / "a.gif")]) == 2
    assert "the string alone grows" in capsys.readouterr().err
    assert main(["figure", run, "--which", "loss", "--width", "3", "--out", str(tmp_path / "a.png")]) == 2
    assert "50 pixels or more" in capsys.readouterr().err and not list(tmp_path.iterdir())
