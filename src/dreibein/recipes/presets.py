"""Whole configurations by name, as functions of the data.

`small`, `medium`, `locaformer` and `localized` are this package's own choices. The `paper-…`
presets follow the settings of TensorNet's first release (June 2023, by the paper's first author) as
closely as this package's options allow; docs/training.md says where they differ.
"""

import difflib
from collections.abc import Callable
from typing import Any

from dreibein.data import DataConfig
from dreibein.models import LoCaFormerConfig, LocalizedConfig, ModelConfig, TensorNetConfig
from dreibein.recipes.config import RunConfig
from dreibein.recipes.config_file import Settings
from dreibein.train import EnergyTerm, Losses, LossTerm, Plateau, TrainingConfig

KCAL_MOL = 0.0433641153087705  # eV; rMD17 was trained in kcal/mol
# free atoms in eV for U0 of QM9, B3LYP/6-31G(2df,p)
QM9_ATOMS = {
    "H": -13.61312172,
    "C": -1029.86312267,
    "N": -1485.30251237,
    "O": -2042.61123593,
    "F": -2713.48485589,
}


def small(data: DataConfig) -> RunConfig:
    """Good errors in minutes on two cores: molecules of tens of atoms, hundreds of frames."""
    return RunConfig(
        name="small",
        data=data,
        model=TensorNetConfig(channels=64, layers=2, cutoff=4.5, num_radial=32, knots=128),
        training=TrainingConfig(epochs=100),
    )


def medium(data: DataConfig) -> RunConfig:
    """The published model size with this package's training; hours on a CPU, less on a GPU."""
    return RunConfig(
        name="medium",
        data=data,
        model=TensorNetConfig(channels=128, layers=2, cutoff=5.0, num_radial=32),
        training=TrainingConfig(epochs=500, ema_decay=0.999),
    )


def locaformer(data: DataConfig) -> RunConfig:
    """LoCaFormer of the size of `small`: attention between soft local frames."""
    return RunConfig(
        name="locaformer",
        data=data,
        model=LoCaFormerConfig(
            architecture="locaformer",
            reps="32x0n+8x1n+4x2n",
            channels=32,
            heads=4,
            layers=2,
            cutoff=4.5,
            num_radial=16,
        ),
        training=TrainingConfig(epochs=100),
    )


def localized(data: DataConfig) -> RunConfig:
    """A network of PyG's TransformerConv between soft local frames, of the size of `small`."""
    return RunConfig(
        name="localized",
        data=data,
        model=LocalizedConfig(
            architecture="localized",
            convolution="TransformerConv",
            options={"heads": 4},
            reps="32x0n+8x1n+4x2n",
            channels=32,
            layers=2,
            cutoff=4.5,
            num_radial=16,
        ),
        training=TrainingConfig(epochs=100),
    )


def paper_rmd17(data: DataConfig) -> RunConfig:
    """TensorNet 2L on rMD17: 950 + 50 frames, MSE with energy : forces effectively 1 : 100.

    The release states weights 0.5 : 0.5, but also `ema_alpha_y: 0.01`: an exponential average of
    the energy's loss *value*, which multiplies its gradient by 0.01.
    """
    return RunConfig(
        name="paper-rmd17",
        data=data,
        model=_published(channels=128, layers=2, num_radial=32, cutoff=4.5),
        training=TrainingConfig(
            **_published_training(batch_size=8, lr=1e-3, warmup_steps=500),
            epochs=10000,
            patience=300,
            schedule=Plateau(factor=0.8, patience=25, min_lr=1e-8),
            gradient_clip=40.0 * KCAL_MOL**2,  # 40 for a loss in (kcal/mol)²
            losses=_mse(energy=0.5 * 0.01, forces=0.5),
            scale="total_energy",
        ),
    )


def paper_qm9(data: DataConfig) -> RunConfig:
    """TensorNet 3L on QM9's U0: 110,000 + 10,000 molecules, the rest for testing."""
    return RunConfig(
        name="paper-qm9",
        data=data,
        model=_published(channels=256, layers=3, num_radial=64, cutoff=5.0),
        training=TrainingConfig(
            **_published_training(batch_size=32, lr=2e-4, warmup_steps=1000),
            epochs=3000,
            patience=150,
            schedule=Plateau(factor=0.8, patience=15, min_lr=1e-7),
            gradient_clip=40.0,
            losses=_mse(energy=1.0, forces=None),
            reference_energies=QM9_ATOMS,
            scale="none",
        ),
    )


def paper_spice(data: DataConfig) -> RunConfig:
    """TensorNet 2L on SPICE 1.1.3, cutoff 10 Å; frames with a force above 50.94 eV/Å removed."""
    return RunConfig(
        name="paper-spice",
        data=data,
        model=_published(channels=128, layers=2, num_radial=64, cutoff=10.0),
        training=TrainingConfig(
            **_published_training(batch_size=16, lr=1e-4, warmup_steps=500),
            epochs=500,
            patience=50,
            schedule=Plateau(factor=0.5, patience=5, min_lr=1e-8),
            gradient_clip=100.0,
            losses=_mse(energy=0.5, forces=0.5),
            scale="none",
        ),
    )


def paper_ani1x(data: DataConfig) -> RunConfig:
    """TensorNet 2L on ANI-1x."""
    return RunConfig(
        name="paper-ani1x",
        data=data,
        model=_published(channels=128, layers=2, num_radial=32, cutoff=4.5),
        training=TrainingConfig(
            **_published_training(batch_size=64, lr=1e-4, warmup_steps=1000),
            epochs=500,
            patience=30,
            schedule=Plateau(factor=0.5, patience=4, min_lr=1e-7),
            gradient_clip=100.0,
            losses=_mse(energy=0.5, forces=0.5),
            scale="none",
        ),
    )


PRESETS: dict[str, Callable[[DataConfig], RunConfig]] = {
    "small": small,
    "medium": medium,
    "locaformer": locaformer,
    "localized": localized,
    "paper-rmd17": paper_rmd17,
    "paper-qm9": paper_qm9,
    "paper-spice": paper_spice,
    "paper-ani1x": paper_ani1x,
}
# data and split that a preset implies; what the user gives counts more
DATA: dict[str, dict[str, Any]] = {
    "paper-rmd17": {
        "sources": "rmd17:aspirin:train:01",
        "validation": 50,
        "test": "rmd17:aspirin:test:01",
    },
    "paper-qm9": {"sources": "qm9", "validation": 10000, "test": 10831},
    "paper-spice": {"validation": 0.1, "test": 0.1},
    "paper-ani1x": {"validation": 0.1, "test": 0.1},
}


def preset(name: str, data: DataConfig | None = None) -> RunConfig:
    """The configuration called `name`, for these data.

    Args:
        name: A key of `PRESETS`.
        data: What to learn from; may be left out where the preset implies a data set. Its own
            split counts; where it has none, the preset's.

    Raises:
        ValueError: An unknown name (with the nearest), or no data.

    >>> preset("paper-qm9").model.channels
    256
    """
    _check_name(name)
    given = {} if data is None else data.model_dump(exclude_unset=True)
    values = DATA.get(name, {}) | given
    if "sources" not in values:
        raise ValueError(f"preset {name} needs something to learn from: add --data FILE")
    return PRESETS[name](DataConfig.model_validate(values))


def preset_settings(name: str) -> Settings:
    """A preset as plain values, to be changed by a file or by options.

    Raises:
        ValueError: An unknown name (with the nearest).
    """
    _check_name(name)
    run = PRESETS[name](DataConfig(sources=["-"]))
    values = run.model_dump(mode="json", exclude_unset=True)
    values["data"] = dict(DATA.get(name, {}))
    values["training"]["schedule"] = run.training.schedule.model_dump()  # its kind is a default
    return Settings(values, {(): f"preset {name}"})


def _check_name(name: str) -> None:
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.0)[0]
        raise ValueError(
            f"unknown preset '{name}': did you mean '{near}'? There are {', '.join(PRESETS)}"
        )


def _published(channels: int, layers: int, num_radial: int, cutoff: float) -> ModelConfig:
    """TensorNet with the published envelope."""
    return TensorNetConfig(
        channels=channels,
        layers=layers,
        num_radial=num_radial,
        cutoff=cutoff,
        envelope="cosine",
    )


def _published_training(batch_size: int, lr: float, warmup_steps: int) -> dict[str, Any]:
    """What all published runs share: AdamW without decay, no average of the weights."""
    return {
        "batch_size": batch_size,
        "lr": lr,
        "warmup_steps": warmup_steps,
        "weight_decay": 0.0,
        "ema_decay": None,
    }


def _mse(energy: float, forces: float | None) -> Losses:
    """Mean squared errors of the energy of a structure and of force components."""
    return Losses(
        energy=EnergyTerm(weight=energy, kind="mse", normalization="structure"),
        forces=None if forces is None else LossTerm(weight=forces, kind="mse"),
        stress=None,
    )
