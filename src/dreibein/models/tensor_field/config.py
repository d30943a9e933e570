"""The description of a tensor field network, from which both of its forms are made."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dreibein.models.locaformer import LoCaFormerConfig
from dreibein.models.local_field import LocalFieldConfig
from dreibein.nn.environment import EnvironmentConfig
from dreibein.o3 import Irrep, Irreps

VECTOR = Irrep(1, -1)
PSEUDOSCALAR = Irrep(0, -1)


class TensorFieldConfig(EnvironmentConfig):
    """A tensor field network: irreps of every layer, paths, gates, norms.

    `channels` is the width of radial networks, and of the features that targets are made of;
    frames and angular functions concern `local` alone.
    """

    architecture: Literal["tensor_field"] = "tensor_field"
    irreps: str = Field(
        "32x0e+32x1o+32x2e",
        description="features of an atom in all layers; 0e first; Fx0e+Fx1o for painn, "
        "Fx0e+1x1o for egnn",
    )
    interaction: Literal["convolution", "attention", "painn", "egnn"] = Field(
        "convolution",
        description="convolution (NequIP; correlation: MACE), attention (Equiformer), as named",
    )
    correlation: int = Field(
        1, ge=1, le=4, description="factors of messages multiplied at an atom (convolution)"
    )
    layers: int = Field(2, ge=1, description="interactions")
    heads: int = Field(4, ge=1, description="attention heads; divides the channels of every block")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        irreps = Irreps(self.irreps)
        if not len(irreps) or not irreps[0].kind.is_trivial:
            raise ValueError(f"irreps begin with scalars, such as 32x0e+32x1o: got {self.irreps}")
        if self.interaction == "attention" and any(mul % self.heads for mul, _ in irreps):
            raise ValueError(f"{self.heads} heads do not divide the channels of {self.irreps}")
        if self.correlation > 1 and self.interaction != "convolution":
            raise ValueError(
                f"correlation is of the interaction convolution, not of {self.interaction}: "
                "leave it at 1"
            )
        vectors = {"painn": irreps[0].mul, "egnn": 1}.get(self.interaction)
        if vectors and irreps != Irreps(f"{irreps[0].mul}x0e+{vectors}x1o"):
            raise ValueError(
                f"{self.interaction} has scalars and vectors, irreps such as "
                f"32x0e+{vectors if vectors == 1 else 32}x1o: got {self.irreps}"
            )
        kinds = {ir for _, ir in irreps}
        if self.symmetry == "SO(3)" and PSEUDOSCALAR not in kinds:
            raise ValueError(
                "SO(3) reads pseudoscalars into the energy: add 0o (and 1e, which leads to it) to "
                f"irreps {self.irreps}"
            )
        if self.targets and VECTOR not in kinds:
            raise ValueError(f"targets are made of vectors: add 1o to irreps {self.irreps}")
        return self

    def local(self) -> LoCaFormerConfig | LocalFieldConfig:
        """The same description between local frames: equal features, layers, edges and heads.

        >>> TensorFieldConfig(irreps="8x0e+8x1o", interaction="attention").local().architecture
        'locaformer'
        >>> local = TensorFieldConfig(irreps="8x0e+8x1o", correlation=3).local()
        >>> local.architecture, local.interaction, local.reps, local.correlation
        ('local_field', 'convolution', '8x0e+8x1o', 3)
        """
        shared = set(EnvironmentConfig.model_fields) - {"channels"}
        width = Irreps(self.irreps).num_channels
        options: dict[str, Any] = {"reps": self.irreps, "layers": self.layers}
        options = {**options, **{name: getattr(self, name) for name in shared}}
        if self.interaction == "attention":
            channels = -(-width // self.heads) * self.heads
            return LoCaFormerConfig(channels=channels, heads=self.heads, **options)
        return LocalFieldConfig(
            interaction=self.interaction,
            correlation=self.correlation,
            channels=max(width, 2),
            **options,
        )
