"""From a method's name to the method."""

import difflib
from pathlib import Path
from typing import NamedTuple

from dreibein.label.calculations import Method
from dreibein.label.corrections import CorrectedMethod
from dreibein.label.dft import COMMON_FUNCTIONALS, DftMethod
from dreibein.label.trained import TrainedMethod
from dreibein.label.xtb import XTB_METHODS, XtbMethod

_EXAMPLE_BASIS = "def2-SVP"


class Level(NamedTuple):
    """A level of theory as processes are told of it.

    Attributes:
        method: Name of the method, or the path of a trained model.
        correction: Model that is added to it.
    """

    method: str
    correction: str | None = None


def make_method(name: str, correction: str | None = None) -> Method:
    """Method of a name: GFN2-xTB, GFN1-xTB, `functional/basis`, `HF/basis`, or a trained model.

    Args:
        name: Upper and lower case do not matter for xTB. A model file, run folder or folder of an
            ensemble is the potential itself.
        correction: Model file or run folder, trained on differences to the method, to add.

    Raises:
        ValueError: The name is not known; the nearest ones are named. Or the correction does not
            belong to the method.
        OSError: There is no such model.
        ImportError: The package behind it is missing; the extra is named.

    >>> make_method("gfn2-xtb").name
    'GFN2-xTB'
    """
    method = _bare_method(name)
    if correction and isinstance(method, TrainedMethod):
        raise ValueError(
            f"{name} is a trained model, and a correction is added to a cheap method: name "
            f"{XTB_METHODS[0]}, say, and the model as the sampler"
        )
    return CorrectedMethod(method, correction) if correction else method


def is_xtb(name: str) -> bool:
    """Whether a name is that of a method cheap enough for dynamics."""
    return name.lower() in {known.lower() for known in XTB_METHODS}


def _bare_method(name: str) -> Method:
    first, slash, basis = name.partition("/")
    for known in XTB_METHODS:
        if first.lower() == known.lower():
            if slash:
                raise ValueError(f"{known} takes no basis set: leave '/{basis}' away")
            return XtbMethod(known)
    if name and (Path(name).exists() or name.endswith(".safetensors")):
        return TrainedMethod(name)
    if first and basis:
        try:
            return DftMethod(name)
        except ValueError as error:  # a name with a slash may have been meant as a path
            raise ValueError(f"{error}, and there is no model at {name}") from error
    name = first
    choices = [*XTB_METHODS, *COMMON_FUNCTIONALS]
    by_low = {choice.lower(): choice for choice in choices}
    if name.lower() in by_low:
        raise ValueError(f"'{name}' lacks its basis set: write {name}/{_EXAMPLE_BASIS}, say")
    close = difflib.get_close_matches(name.lower(), by_low, n=2, cutoff=0.5)
    shown = [
        by_low[low] if by_low[low] in XTB_METHODS else f"{by_low[low]}/{_EXAMPLE_BASIS}"
        for low in close or ("gfn2-xtb", "pbe")
    ]
    raise ValueError(f"'{name}' is no method; nearest are {' and '.join(shown)}")
