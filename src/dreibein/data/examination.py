"""What the data doctor hands over: counts, ranges and findings, all JSON-able."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

Severity = Literal["info", "warning", "refusal"]


class Finding(BaseModel):
    """One thing found; a refusal stops training on the label named."""

    model_config = ConfigDict(extra="forbid")

    severity: Severity
    topic: str = Field(description="What was examined, in a word or two.")
    message: str = Field(description="One sentence: what, where, what to do.")
    label: str | None = Field(default=None, description="Label concerned, if one.")
    frames: list[int] = Field(default_factory=list, description="Frames concerned, at most 100.")


class Range(BaseModel):
    """Spread of one quantity over the frames."""

    model_config = ConfigDict(extra="forbid")

    unit: str
    minimum: float
    median: float
    maximum: float
    spread: float = Field(description="Standard deviation; for force components their rms.")
    frame_of_minimum: int
    frame_of_maximum: int


class LabelCount(BaseModel):
    """How often a label is there, and how it was read."""

    model_config = ConfigDict(extra="forbid")

    frames: int = Field(description="Frames with at least one entry.")
    per_atom: bool
    entries: int = Field(description="Entries present: atoms for labels of atoms, else frames.")
    of: int = Field(description="Entries if none were missing.")
    found: list[str] = Field(description="Key and place in each source.")
    unit: str = Field(description="Unit in the files, and in the package where it differs.")
    reason: str = Field(description="Where that unit comes from.")


class Examination(BaseModel):
    """The data doctor's account of a data set."""

    model_config = ConfigDict(extra="forbid")

    frames: int
    atoms: int
    sources: list[dict[str, Any]]
    level_of_theory: str | None
    labels: dict[str, LabelCount]
    elements: dict[str, dict[str, int]] = Field(description="Symbol -> frames and atoms.")
    compositions: dict[str, int] = Field(description="Formula -> frames, most frequent first.")
    cells: dict[str, int] = Field(description="Kind of periodicity -> frames.")
    config_types: dict[str, int]
    reference_energies: dict[str, float] = Field(description="Symbol -> eV, fitted.")
    ranges: dict[str, Range]
    forces_rms_by_element: dict[str, float]
    findings: list[Finding]
    examined_frames: int = Field(
        description="Frames in the costly checks (distances, pairs); ranges and counts cover all."
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def refused(self) -> bool:
        """Whether training on these data would be refused."""
        return bool(self.refusals())

    def refusals(self, labels: tuple[str, ...] | None = None) -> list[Finding]:
        """Findings that stop training; with `labels`, only general ones and those of the labels."""
        return [
            f
            for f in self.findings
            if f.severity == "refusal" and (labels is None or f.label is None or f.label in labels)
        ]
