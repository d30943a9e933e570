"""Strings: what is read, what is refused, and where the caret stands."""

import pytest

from dreibein.o3 import Irrep, Irreps, MLPReps, Tensor, TensorReps, parse_reps


@pytest.mark.parametrize(
    ("read", "text", "position", "problem"),
    [
        (Irreps, "2y1o", 2, "expected '+' or the end, found '1'"),
        (Irreps, "64x0e+32q1o", 8, "expected one of the letters e, o, y"),
        (Irreps, "1", 1, "found the end"),
        (Irreps, "x1o", 0, "expected a multiplicity or a degree"),
        (Irreps, "1o+", 3, "found the end"),
        (Irreps, "1o++2e", 3, "expected a multiplicity"),
        (Irreps, "-1x1o", 0, "found '-'"),
        (Irreps, "1.5x1o", 1, "found '.'"),
        (Irreps, "8x1n", 3, "expected one of the letters e, o, y"),
        (Irreps, "m64", 0, "found 'm'"),
        (TensorReps, "16x0n+8x1o", 9, "expected one of the letters n, p"),
        (TensorReps, "16x0n 8x1n", 6, "expected '+'"),
        (parse_reps, "8x0e+m", 6, "expected the width"),
        (parse_reps, "8x0e + 4x2z", 10, "expected one of the letters e, o, y, n, p"),
        (Irrep.parse, "2x1o", 0, "expected one irrep"),
        (Tensor.parse, "1n+1n", 0, "expected one Cartesian tensor"),
    ],
)
def test_an_unknown_notation_shows_its_position(read, text, position, problem):
    with pytest.raises(ValueError, match="expected") as error:
        read(text)
    first, shown, caret = str(error.value).split("\n")
    assert problem in first
    assert f"position {position}" in first
    assert shown == "  " + text
    assert caret.index("^") - 2 == position


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64x0e+32x1o+16x2e", Irreps([(64, "0e"), (32, "1o"), (16, "2e")])),
        ("1o", Irreps([(1, "1o")])),
        ("  2 x 1o +3x0e ", Irreps([(2, "1o"), (3, "0e")])),
        ("1y+2y", Irreps("1o+2e")),
        ("16x0n+8x1n+4x2p", TensorReps([(16, "0n"), (8, "1n"), (4, Tensor(2, True))])),
        ("m64", MLPReps(64)),
        ("", Irreps()),
        ("8x0e+m16+2x1n", Irreps("8x0e") + MLPReps(16) + TensorReps("2x1n")),
    ],
)
def test_every_family_is_read_from_a_string(text, expected):
    assert parse_reps(text) == expected
    assert parse_reps(str(expected)) == expected


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ([(-1, "1o")], "multiplicity"),
        ([(1.5, "1o")], "multiplicity"),
        ([3], "expected an irrep"),
        (TensorReps("1n"), "bridge"),
    ],
)
def test_wrong_blocks_are_refused(source, problem):
    with pytest.raises(ValueError, match=problem):
        Irreps(source)
