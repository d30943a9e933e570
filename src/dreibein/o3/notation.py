"""Reading of representation strings, with the position of whatever is wrong."""

import re
from typing import NamedTuple

_NUMBER = re.compile(r"\d+")
_SPACE = re.compile(r"\s*")


class Term(NamedTuple):
    """One term of a sum: multiplicity, degree, the letter after it, and where it stands."""

    mul: int
    degree: int
    letter: str
    position: int


def notation_error(text: str, position: int, problem: str) -> ValueError:
    """The error for `text`: the problem, and a caret under the character at `position`."""
    caret = " " * position + "^"
    return ValueError(f"{problem}, at position {position}\n  {text}\n  {caret}")


def terms(text: str, letters: str, family: str) -> list[Term]:
    """Terms of `"2x1o + 3x0e"`, whose letters must be among `letters`; `"m64"` is (1, 64, "m").

    Args:
        text: the string; an empty one has no terms.
        letters: letters that may follow a degree.
        family: what is being read, for the message ("irreps with parity e or o").

    Raises:
        ValueError: showing the position of the first character that does not fit.

    >>> terms("2x1o + 0e", "eoy", "irreps")
    [Term(mul=2, degree=1, letter='o', position=2), Term(mul=1, degree=0, letter='e', position=7)]
    """
    found: list[Term] = []
    position = _skip(text, 0)
    if position == len(text):
        return found
    while True:
        term, position = _term(text, position, letters, family)
        found.append(term)
        position = _skip(text, position)
        if position == len(text):
            return found
        if text[position] != "+":
            raise notation_error(
                text, position, f"expected '+' or the end, found {text[position]!r}"
            )
        position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _number(text: str, position: int, what: str) -> tuple[int, int]:
    match = _NUMBER.match(text, position)
    if match is None:
        found = repr(text[position]) if position < len(text) else "the end"
        raise notation_error(text, position, f"expected {what}, found {found}")
    return int(match.group()), _skip(text, match.end())


def _term(text: str, position: int, letters: str, family: str) -> tuple[Term, int]:
    if "m" in letters and text.startswith("m", position):
        width, end = _number(text, position + 1, "the width of a learned representation")
        return Term(1, width, "m", position), end
    first, end = _number(text, position, f"a multiplicity or a degree of {family}")
    mul, start = 1, position
    if text.startswith("x", end):
        start = _skip(text, end + 1)
        mul, (first, end) = first, _number(text, start, f"a degree of {family}")
    if end >= len(text) or text[end] not in letters.replace("m", ""):
        found = repr(text[end]) if end < len(text) else "the end"
        wanted = ", ".join(letters.replace("m", ""))
        raise notation_error(
            text, end, f"expected one of the letters {wanted} ({family}), found {found}"
        )
    return Term(mul, first, text[end], start), end + 1
