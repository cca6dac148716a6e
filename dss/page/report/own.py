"""Which files are pages of this package, and of which run: pages alone may be replaced without being asked."""

import re
from pathlib import Path

from dss.base.files import check_writable
from dss.runs import REPORT, SUMMARY
from dss.runs.seal import digest_of_file

MARK = '<meta name="generator" content="dynamic-string-sampling">'
# What pages of versions before the mark begin with.
FORMER = '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n<title>'
HEAD = 4096
"""Characters within which a page says what it is."""


def is_page(file: Path) -> bool:
    """Whether a file is a page that this package wrote."""
    head = _head(file)
    return MARK in head or FORMER in head


def check_page(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace any file but a page.

    Raises:
        InputError: another file is there and must not be overwritten, or its folder does not exist.
    """
    check_writable(out, overwrite=overwrite or is_page(out))


def subject(folder: Path) -> str:
    """What a page of a run folder is about: the digest of its summary; empty for a search that has not ended."""
    return digest_of_file(folder / SUMMARY) or ""


def is_current(folder: Path) -> bool:
    """Whether a run folder has its page, drawn of the summary that it has now."""
    head = _head(folder / REPORT)
    if MARK not in head:
        return FORMER in head
    found = re.search(r'<meta name="subject" content="(\w*)">', head)
    return found is not None and found[1] == subject(folder)


def _head(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(HEAD)
