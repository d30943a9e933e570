"""Triton's operators, through its interpreter on the CPU, are the references.

With a GPU the same cases run on it as well: `TRITON_INTERPRET=0 pytest tests/ops/test_triton.py`.
"""

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreibein.models import TensorNetConfig, build_potential
from dreibein.models.tensornet import edges
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential
from dreibein.ops import triton_forms
from dreibein.systems import from_ase
from ops.test_forms import FORMS, PRODUCTS, SLOTS, problem, relative, slots_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # set in conftest.py, before any import

pytestmark = [
    pytest.mark.skipif(
        not triton_forms.available(), reason="Triton is not installed: pip install triton"
    ),
    pytest.mark.skipif(
        not INTERPRETED and not torch.cuda.is_available(), reason="TRITON_INTERPRET=0 needs a GPU"
    ),
]
DEVICE = "cpu" if INTERPRETED else "cuda"
ALL = SLOTS + [(name, slot) for name in PRODUCTS for slot in ("left", "right", "out")]


def on_triton():
    return triton_forms.interpreted() if INTERPRETED else nullcontext()


def case(name, slot, atoms, count, channels, seed, dtype=torch.float64):
    """The form, its other arrays, the plan and the number of rows."""
    if name in PRODUCTS:
        g = torch.Generator().manual_seed(seed)
        shape = (atoms, 9, channels)
        arrays = {
            n: torch.randn(shape, generator=g, dtype=torch.float64).to(DEVICE, dtype)
            for n in ("left", "right", "out")
        }
        form, plan = PRODUCTS[name], ()
    else:
        arrays, table = problem(atoms, count, channels, seed, dtype)
        arrays = {n: a.to(DEVICE) for n, a in arrays.items()}
        form, plan = FORMS[name], [part.to(DEVICE) for part in table.plan]
    return form, *slots_of(form, slot, arrays), plan


def compare(name, slot, *sizes, dtype):
    form, others, rows, plan = case(name, slot, *sizes, dtype)
    right = form(slot, others, plan, rows, backend="reference")
    with on_triton():
        found = form(slot, others, plan, rows)
    assert found.dtype == dtype
    assert found.shape == right.shape
    assert relative(found, right) < (1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize(("name", "slot"), ALL)
@settings(max_examples=2)
@given(
    atoms=st.integers(1, 4), count=st.integers(0, 6), channels=st.sampled_from((1, 5, 16, 19)),
    seed=st.integers(0, 999), double=st.booleans(),
)  # fmt: skip
def test_equal_to_the_reference(name, slot, atoms, count, channels, seed, double):
    dtype = torch.float64 if double else torch.float32
    compare(name, slot, atoms, count, channels, seed, dtype=dtype)


@pytest.mark.parametrize(("name", "slot"), ALL)
def test_several_blocks_of_channels_and_no_rows(name, slot):
    compare(name, slot, 2, 2, 131, 1, dtype=torch.float64)
    if name in PRODUCTS:
        compare(name, slot, 0, 0, 4, 1, dtype=torch.float64)


@pytest.mark.parametrize(("name", "slot"), [("message", "table"), ("embedding", "pairs")])
def test_long_lists_are_shared(name, slot, monkeypatch):
    monkeypatch.setattr(triton_forms, "_PART", 2)
    compare(name, slot, 3, 20, 3, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "slot"), [("message", "receivers"), ("embedding", "receivers"), ("product", "out")]
)
def test_derivatives(name, slot):
    """Of what the network calls; every other operator is one of their derivatives."""
    form, others, rows, plan = case(name, slot, 2, 2, 1, 2)

    def run(*inputs):
        return form(slot, dict(zip(others, inputs, strict=True)), plan, rows)

    inputs = tuple(x.requires_grad_() for x in others.values())
    with on_triton():
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
        if name != "embedding":  # the interpreter is slow
            assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize(("name", "slot"), [ALL[0], ALL[-1]])
def test_registration(name, slot):
    form, others, rows, plan = case(name, slot, 2, 2, 1, 3)
    inputs = [x.requires_grad_() for x in others.values()]
    with on_triton():
        torch.library.opcheck(form.ops[slot], (*inputs, list(plan), rows))


def test_a_potential_trains_through_them():
    """Energy, forces, and the gradient of a loss on both: the same as by the reference."""
    import ase.build

    torch.manual_seed(0)
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=3.0, knots=8)
    potential = build_potential(config, elements=(1, 8), dtype=torch.float64).train().to(DEVICE)
    frame = attach_neighbors(from_ase(ase.build.molecule("H2O")), potential.cutoff).to(DEVICE)
    frame.pos = frame.pos.requires_grad_()  # by autograd, not by the fused pass
    found = {}
    for backend in ("reference", "auto"):
        potential.network.backend = backend
        with on_triton() if backend == "auto" else nullcontext():
            out = potential(frame, compute=("energy", "forces"))
            loss = out["energy"].square().sum() + out["forces"].square().sum()
            slopes = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)
        found[backend] = [out["forces"], *(s for s in slopes if s is not None)]
    assert len(found["auto"]) == len(found["reference"]) > 10
    for a, b in zip(found["auto"], found["reference"], strict=True):
        assert relative(a, b) < 1e-11


COMPILE = """
import re
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from dreibein.ops import triton_kernels

kernels = triton_kernels.load()
integers = {"base", "other", "sender", "receiver", "ptr", "order"}
count = 0
for name in triton_kernels._KERNELS:
    kernel = getattr(kernels, name)
    flags = [{"EMBED": False}, {"EMBED": True}] if "EMBED" in kernel.arg_names else [{}]
    if "LEFT" in kernel.arg_names:
        flags = [{"LEFT": False, "RIGHT": True, "BOTH": True}]
    for kind in ("fp32", "fp64"):
        for flag in flags:
            known = {"BLOCK": 128, **flag}
            wide = "i64" if name in ("table_kernel", "pairs_kernel") else "i32"
            types = {}
            for a in kernel.arg_names:
                types[a] = "*" + kind
                if a in integers:
                    types[a] = "*" + (wide if a in ("ptr", "order") else "i32")
                if a in ("F", "bases", "rows"):
                    types[a] = "i32"
                if a in known:
                    types[a] = "constexpr"
            places = {(kernel.arg_names.index(a),): v for a, v in known.items()}
            source = ASTSource(fn=kernel, signature=types, constexprs=places)
            made = compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 4})
            text = made.asm["ptx"]
            assert made.asm["cubin"], name
            assert "cvt.f64.f32" not in text, f"{name}: a constant was rounded to float32"
            assert not re.search(r"\\b(atom|red)[.]", text), f"{name} adds atomically"
            assert ".local" not in text, f"{name} spills"
            count += 1
print(count)
"""


def test_every_kernel_compiles_for_a_gpu(tmp_path):
    """To machine code of compute capability 8.0, which needs no GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["18"]


def test_the_backend_is_chosen_by_device_and_triton(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    config = {"channels": 4, "layers": 0, "num_radial": 4}
    network = build_potential(TensorNetConfig(knots=8, **config), elements=(1,)).network
    plain = build_potential(TensorNetConfig(**config), elements=(1,)).network
    single = torch.float32
    assert network.sums_backend(cuda, single) == "cuda"
    assert network.training_backend(cuda, single).startswith("cuda")
    assert network.sums_backend(cpu, single) == "fused"
    assert network.sums_backend(cuda, torch.bfloat16) == "reference"
    assert plain.sums_backend(cuda, single) == "reference"
    monkeypatch.setattr(edges, "available", lambda: False)
    assert network.sums_backend(cuda, single) == "reference"
    assert network.training_backend(cuda, single).startswith("reference")
    network.backend = "cuda"
    with pytest.raises(ValueError, match="pip install triton"):
        network.sums_backend(cuda, single)
    potential = build_potential(TensorNetConfig(knots=8, **config), elements=(1,))
    with pytest.raises(ValueError, match="cannot be evaluated by 'cuda'"):
        FrozenPotential(potential, "cuda")


def test_without_triton_the_error_says_what_to_do(monkeypatch):
    from dreibein.ops import triton_kernels

    monkeypatch.setattr(triton_kernels, "_loaded", None)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="pip install triton"):
        triton_kernels.load()
