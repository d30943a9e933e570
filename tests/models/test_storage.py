"""Model files: bit-exact, atomic, refused with one sentence when damaged; loading runs no code."""

import json
import os
import pickle
import struct
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dreibein.models import (
    TensorNetConfig,
    build_potential,
    load_model,
    read_header,
    save_model,
    storage,
)
from dreibein.neighbors import attach_neighbors
from dreibein.testing import sample_molecule

REFERENCES = {1: -13.605693122994, 8: -2041.8396}
CARD = {"data": {"sha256": "0" * 64}, "errors": {"energy_mae_mev": 1.5}, "note": "é, Å"}
MOLECULE = attach_neighbors(sample_molecule((1, 8), 5, seed=1), 3.0)


def potential(dtype=torch.float32, **options):
    torch.manual_seed(0)
    config = TensorNetConfig(
        **({"channels": 4, "layers": 1, "num_radial": 4, "cutoff": 3.0} | options)
    )
    return build_potential(
        config, elements=(1, 8), reference_energies=REFERENCES, scale=0.123, dtype=dtype, card=CARD
    )


@pytest.fixture
def path(tmp_path):
    return save_model(potential(), tmp_path / "model.safetensors")


def edit_header(path, change):
    """Rewrite the JSON header of a safetensors file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    outer = json.loads(raw[8 : 8 + size])
    inner = json.loads(outer["__metadata__"]["dreibein"])
    change(inner)
    outer["__metadata__"]["dreibein"] = json.dumps(inner)
    text = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 0}, {"radial": "bessel"}, {"radial": "gaussian"}, {"symmetry": "SO(3)"},
     {"envelope": "cosine"}],
)  # fmt: skip
def test_round_trip_is_exact(tmp_path, dtype, options):
    saved = potential(dtype, **options)
    loaded = load_model(save_model(saved, tmp_path / "m.safetensors"))
    assert loaded.config == saved.config
    assert loaded.elements == saved.elements
    assert loaded.card == CARD
    assert loaded.dtype == dtype
    assert loaded.reference_energies == REFERENCES
    assert not loaded.training
    for (name, a), (other, b) in zip(
        saved.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert a.dtype == b.dtype
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    one, two = (p(MOLECULE) for p in (saved, loaded))
    assert torch.equal(one["energy"], two["energy"])
    assert torch.equal(one["forces"], two["forces"])


def test_saving_twice_gives_the_same_bytes(tmp_path, path):
    again = save_model(load_model(path), tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()


def test_another_precision_may_be_asked_for(path):
    double = load_model(path, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert double.reference_energies == REFERENCES
    assert float(double.scale) == 0.123


def test_saving_does_not_change_the_potential(tmp_path):
    trained = potential().train()
    save_model(trained, tmp_path / "m.safetensors")
    assert trained.training


def test_the_header_says_what_is_inside(path):
    header = read_header(path)
    assert header["format"] == storage.FORMAT
    assert header["elements"] == [1, 8]
    assert header["dtype"] == "float32"
    assert header["units"]["energy"] == "eV"
    assert header["config"]["architecture"] == "tensornet"
    assert header["card"] == CARD
    assert set(header["versions"]) >= {"dreibein", "torch"}


def test_the_file_is_plain_safetensors(path):
    with safe_open(path, framework="pt") as file:
        assert "network.head.0.weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("load", [load_model, read_header])
class TestRefusals:
    """Each message is one sentence that names the file and says what to do."""

    def test_missing(self, load, tmp_path):
        with pytest.raises(OSError, match=r"no model file at .*nowhere") as error:
            load(tmp_path / "nowhere.safetensors")
        one_line(error)

    def test_a_folder(self, load, tmp_path):
        with pytest.raises(OSError, match=r"holds no model\.safetensors"):
            load(tmp_path)  # a run's folder has one

    @pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.999])
    def test_truncated(self, load, path, fraction):
        raw = path.read_bytes()
        path.write_bytes(raw[: int(fraction * len(raw))])
        with pytest.raises(ValueError, match="not a whole model file") as error:
            load(path)
        assert str(path) in one_line(error)

    def test_random_bytes(self, load, path):
        path.write_bytes(bytes(range(256)) * 40)
        with pytest.raises(ValueError, match="not a whole model file"):
            load(path)

    def test_newer_format(self, load, path):
        edit_header(path, lambda h: h.update(format=99, versions={"dreibein": "7.0"}))
        with pytest.raises(ValueError, match=r"format 99.*reads up to 1; update dreibein") as error:
            load(path)
        assert "7.0" in one_line(error)

    def test_foreign_safetensors(self, load, path):
        save_file({"weight": torch.zeros(3)}, path)
        with pytest.raises(ValueError, match="not a model written by dreibein") as error:
            load(path)
        one_line(error)

    def test_a_pickle_is_refused_and_not_run(self, load, path, tmp_path):
        witness = tmp_path / "witness"

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(witness),)

        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ValueError, match="not a whole model file"):
            load(path)
        torch.save({"x": Bomb()}, path)
        with pytest.raises(ValueError, match="not a whole model file"):
            load(path)
        assert not witness.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["config"].update(channels=5), "weights do not fit the hyperparameters"),
        (lambda h: h["config"].update(layers=3), "weights do not fit the hyperparameters"),
        (lambda h: h.update(elements=[1, 6, 8]), "weights do not fit the hyperparameters"),
        (lambda h: h["config"].update(chanels=8), r"not understood \(chanels\)"),
        (lambda h: h["config"].update(cutoff=-1.0), r"not understood \(cutoff\)"),
        (lambda h: h["config"].update(architecture="painn"), "unknown architecture 'painn'"),
        (lambda h: h.update(elements=[1, 400]), "atomic numbers in"),
        (lambda h: h.update(dtype="float33"), "unknown precision 'float33'"),
        (lambda h: h.pop("elements"), "lacks 'elements'"),
        (lambda h: h.pop("format"), "damaged header"),
        (lambda h: h.update(format="one"), "damaged header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(path, change, said):
    edit_header(path, change)
    with pytest.raises(ValueError, match=said) as error:
        load_model(path)
    assert str(path) in one_line(error)


def test_older_headers_are_brought_up_to_date(path, monkeypatch):
    """Each format has one step to the next; the steps are chained."""
    steps = []

    def upgrade(version):
        def step(header):
            steps.append(version)
            return header | {"format": version + 1, "card": header["card"] | {f"v{version}": True}}

        return step

    monkeypatch.setattr(storage, "FORMAT", 3)
    monkeypatch.setattr(storage, "UPGRADES", {1: upgrade(1), 2: upgrade(2)})
    assert load_model(path).card == CARD | {"v1": True, "v2": True}
    assert steps == [1, 2]


def test_every_format_can_be_upgraded():
    assert set(storage.UPGRADES) == set(range(1, storage.FORMAT))


def test_a_full_disk_leaves_the_old_model(path):
    """A limit on the size of files stands for a full disk."""
    before = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from dreibein.models import load_model, save_model\n"
        "potential = load_model(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    save_model(potential, sys.argv[1])\n"
        "except OSError as error:\n"
        "    print('refused:', ' '.join(str(error).split()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
    )
    assert done.stdout.startswith("refused:"), done.stderr
    assert str(path) in done.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    with pytest.raises(OSError, match="absent"):
        save_model(potential(), tmp_path / "absent" / "model.safetensors")


def test_a_card_that_is_no_json_leaves_no_file(tmp_path):
    strange = potential()
    strange.card["function"] = print
    with pytest.raises((TypeError, ValueError)):
        save_model(strange, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
