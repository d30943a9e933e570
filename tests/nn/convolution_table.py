"""Rows of docs/localized_convolutions.md.

python tests/nn/convolution_table.py --write rewrites the document.
"""

import re
import sys
from pathlib import Path

import torch_geometric.nn.conv as conv

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "localized_convolutions.md"
HEAD = """# Convolutions of PyTorch Geometric, localized

Written by `python tests/nn/convolution_table.py --write`; the tests check that it is up to date.
Each layer takes features `4x0e+1x0o+1x1o+1x1e+1x2e` of 9 nodes and, where it can, edge vectors,
edge weights, types or positions; float64, four random elements of O(3), two of them reflections.

* *equivariance*: largest |f(g x) - g f(x)| over largest |f(x)|.
* *as it was*: largest deviation of the layer with identity frames from the layer itself.
* *messages*: "one hop" layers equal the layer run on the whole graph in each receiver's frame, row
  by row (tested to 1e-12); the others carry what they send on from node to node.

"""


def rows(measure: bool = True) -> list[str]:
    """One line of the table for each class, its errors left out unless measured."""
    from dreibein.nn.localization import REASONS
    from nn.convolution_cases import CASES_BY_NAME, errors

    lines = ["| class | equivariance | as it was | messages |", "|---|---|---|---|"]
    for name in sorted(conv.__all__):
        if name in CASES_BY_NAME:
            case = CASES_BY_NAME[name]
            found = errors(case) if measure else {"equivariance": 0.0, "identity": 0.0}
            hops = "one hop" if case.one_hop else "sent on"
            lines.append(
                f"| {name} | {found['equivariance']:.0e} | {found['identity']:.0e} | {hops} |"
            )
        elif name == "MessagePassing":
            lines.append(f"| {name} | | | the base class: any layer of your own |")
        else:
            lines.append(f"| {name} | | | cannot be wrapped: {REASONS[name]} |")
    return lines


def without_numbers(text: str) -> str:
    """The document with its errors blanked, which differ between machines."""
    return re.sub(r"\d+e[-+]\d+ \|", "# |", text)


def document(measure: bool = True) -> str:
    """The whole document."""
    from nn.convolution_cases import CASES

    lines = rows(measure)
    total = len(lines) - 2
    count = f"{len(CASES)} of {total} classes of `torch_geometric.nn.conv` are localized.\n\n"
    return HEAD + count + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    text = document()
    if "--write" in sys.argv:
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
