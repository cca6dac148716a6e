"""Words from files and from users as a message may show them: one line, no control characters, of bounded length."""

from collections.abc import Iterable

LONGEST, MOST = 80, 6
"""Characters of one such word, and words of a list."""
MESSAGE = 2000
"""Characters of a whole message."""


def shown(text: object, longest: int = LONGEST) -> str:
    """Text on one line with its control characters escaped, cut in its middle where it is long."""
    given = str(text)
    # Escaping makes text longer, never shorter: what is cut away in the end need not be looked at.
    ends = given if len(given) <= 2 * longest else given[:longest] + given[-longest:]
    plain = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in ends)
    if len(plain) <= longest and ends is given:
        return plain
    half = max(1, (longest - 3) // 2)
    return f"{plain[:half]}...{plain[-half:]}"


def listed(words: Iterable[object], most: int = MOST) -> str:
    """The first few of some words, and how many more there are."""
    every = list(words)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shown(word) for word in every[:most]) + more
