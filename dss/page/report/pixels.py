"""A figure as pixels: an image, or the growing string as a film, every recorded moment an image."""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import plotly.graph_objects as go
import plotly.io

from dss.base.errors import InputError
from dss.base.files import write_atomically
from dss.page.report.image import MOVIES, PAPER, check_installed, drawing, for_paper, on_white, write_image

# Seconds that a film takes at least, and that a moment is shown at most; the last one stays for longer.
FILM, MOMENT, LAST = 6.0, 0.6, 1.5


def write_pixels(figure: go.Figure, out: Path, *, width: int | str, height: int | None = None) -> None:
    """An image or a film, by the file's ending.

    Args:
        width: in pixels of 1/96 inch, or a name of `PAPER`, whose fonts and lines are print's.
        height: in the same pixels; two thirds of the width by default, or of a column four fifths: it needs more for its titles.

    Raises:
        InputError: something that draws is missing.
    """
    pixels = PAPER[width] if isinstance(width, str) else width
    height = height or round(pixels * (0.8 if width == "column" else 2 / 3))
    figure = for_paper(figure, height) if isinstance(width, str) else figure
    (write_movie if out.suffix.lower() in MOVIES else write_image)(figure, out, width=pixels, height=height)


def write_movie(figure: go.Figure, out: Path, *, width: int, height: int) -> None:
    """A GIF or MP4 of a figure's frames, drawn by kaleido and joined by imageio.

    Args:
        width, height: in pixels; odd ones lose one, which MP4 cannot have.

    Raises:
        InputError: kaleido, imageio or the browser is missing, or the figure has no frames.
    """
    for package in ("kaleido", "imageio", *(("imageio_ffmpeg",) if out.suffix.lower() == ".mp4" else ())):
        check_installed(package, f"{out.suffix} films", "or record the page while it plays")
    if not figure.frames:
        raise InputError("the string did not grow: its first moment is its last, and there is no film to make")
    width, height = width - width % 2, height - height % 2
    with TemporaryDirectory() as folder, drawing(out):
        files: list[str | Path] = [Path(folder) / f"{i:04d}.png" for i in range(len(figure.frames))]
        plotly.io.write_images([_moment(figure, frame) for frame in figure.frames], files, width=width, height=height)
        _join(files, out)


def _moment(figure: go.Figure, frame: go.Frame) -> go.Figure:
    return on_white(go.Figure(frame.data, figure.layout))


def _join(files: list[str | Path], out: Path) -> None:
    imageio = import_module("imageio.v3")
    images = [imageio.imread(file) for file in files]
    each = min(MOMENT, FILM / len(images))
    ending = out.suffix.lower()
    if ending == ".gif":
        durations = [1000 * each] * (len(images) - 1) + [1000 * LAST]
        write_atomically(out, lambda file: imageio.imwrite(file, images, extension=ending, duration=durations, loop=0))
    else:
        # A film has one rate: the last moment is repeated.
        images += images[-1:] * round(LAST / each)
        write_atomically(out, lambda file: imageio.imwrite(file, images, extension=ending, fps=1 / each, macro_block_size=2))
