"""What to read, which keys and units it has, and how it is divided: one typed record."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

VOIGT_ASE = "xx yy zz yz xz xy"

_PAIRS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}


def _as_list(value: Any) -> Any:
    """One path is a list of one."""
    if isinstance(value, str | Path):
        return [str(value)]
    if isinstance(value, list | tuple):
        return [str(v) if isinstance(v, Path) else v for v in value]
    return value


def _portion(value: Any) -> Any:
    """A number is a count or fraction, anything else is a list of sources."""
    return value if value is None or isinstance(value, int | float) else _as_list(value)


Sources = Annotated[list[str], BeforeValidator(_as_list)]
Portion = Annotated[int | float | list[str] | None, BeforeValidator(_portion)]


class StressConvention(BaseModel):
    """How the stress is written in the files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sign: Literal["tension", "compression"] = Field(
        default="tension",
        description="What is positive in the files: tension (ASE, this package) or compression "
        "(pressure-like, as printed by VASP).",
    )
    order: str = Field(
        default=VOIGT_ASE,
        description="Order of six-number stresses in the files, such as 'xx yy zz yz xz xy' (ASE) "
        "or 'xx yy zz xy yz xz' (VASP); a 3x3 form counts as made from six numbers by ASE's order.",
    )

    @field_validator("order")
    @classmethod
    def _six_pairs(cls, text: str) -> str:
        words = ["".join(sorted(w)) for w in text.lower().replace(",", " ").split()]
        if sorted(words) != sorted(_PAIRS):
            raise ValueError(
                f"the stress order '{text}' must name xx yy zz yz xz xy once each, "
                "in the order of the file"
            )
        return " ".join(words)

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Matrix element (row, column) of each of the six numbers."""
        return tuple(_PAIRS[word] for word in self.order.split())


class DataConfig(BaseModel):
    """Sources of structures with labels; everything that can be guessed may be left out."""

    model_config = ConfigDict(extra="forbid")

    sources: Sources = Field(
        description="Files to train on (extxyz and all that ASE reads, .db, MD17-style .npz, .h5 "
        "store; * and ? are expanded) or names: 'qm9', 'rmd17:ethanol', 'rmd17:ethanol:train:01'.",
        min_length=1,
    )
    keys: dict[str, str] = Field(
        default_factory=dict,
        description="Label -> key in the files, for example {energy: REF_energy}; labels that are "
        "not named here are looked for under their usual names.",
    )
    units: dict[str, str] = Field(
        default_factory=dict,
        description="Label -> unit in the files, plus 'length', for example {energy: kcal/mol, "
        "length: Å}; a unit that is not named follows from energy and length.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="Labels that must be present; loading is refused where one is nowhere.",
    )
    stress_convention: StressConvention = Field(
        default_factory=StressConvention,
        description="Sign and order of the stress in the files, where they are foreign.",
    )
    allow_nan: bool = Field(
        default=False,
        description="Treat NaN labels as missing (masked) instead of refusing the file.",
    )
    level_of_theory: str | None = Field(
        default=None,
        description="Method that made the labels, such as 'PBE/def2-SVP'; stored in the model.",
    )
    train: int | float | None = Field(
        default=None,
        description="How many frames to train on (count or fraction); by default all that "
        "validation and test leave.",
    )
    validation: Portion = Field(
        default=0.1,
        description="Frames held out to steer training: a count, a fraction below 1, or sources.",
    )
    test: Portion = Field(
        default=None,
        description="Frames held out for the final errors: a count, a fraction below 1, or "
        "sources; null for none.",
    )
    split_seed: int = Field(default=0, description="Seed of the random division of the frames.")
    folder: Path | None = Field(
        default=None,
        description="Folder with the files of named data sets (rmd17); where a file is missing it "
        "is downloaded there. Default: $DREIBEIN_DATA, else the user's cache folder.",
    )
