// Energy and forces of a molecule from a package written by `dreibein export --aot`.
//
//   evaluate MODEL.pt2 < molecule.txt
//
// Standard input: the number of atoms, then for each its atomic number and x y z in Å.
// Neighbors are all pairs within the cutoff; a program for large systems brings its own list.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::fprintf(stderr, "usage: evaluate MODEL.pt2 < molecule.txt\n");
        return 2;
    }
    torch::inductor::AOTIModelPackageLoader model(argv[1]);
    const auto header = model.get_metadata();
    const double cutoff = std::stod(header.at("cutoff"));
    const std::string elements = " " + header.at("elements") + " ";

    int64_t atoms = 0;
    std::cin >> atoms;
    std::vector<int64_t> z(atoms);
    std::vector<double> pos(3 * atoms);
    for (int64_t i = 0; i < atoms; ++i) {
        if (!(std::cin >> z[i] >> pos[3 * i] >> pos[3 * i + 1] >> pos[3 * i + 2])) {
            std::fprintf(stderr, "atom %lld is missing\n", static_cast<long long>(i));
            return 2;
        }
        if (elements.find(" " + std::to_string(z[i]) + " ") == std::string::npos) {
            std::fprintf(stderr, "the model does not know element %lld\n",
                         static_cast<long long>(z[i]));
            return 2;
        }
    }

    std::vector<int64_t> sender, receiver;  // every pair in both directions
    for (int64_t i = 0; i < atoms; ++i)
        for (int64_t j = 0; j < atoms; ++j) {
            double squared = 0.0;
            for (int k = 0; k < 3; ++k) {
                const double d = pos[3 * j + k] - pos[3 * i + k];
                squared += d * d;
            }
            if (i != j && squared < cutoff * cutoff) {
                sender.push_back(j);
                receiver.push_back(i);
            }
        }
    const auto edges = static_cast<int64_t>(sender.size());

    const auto integers = at::TensorOptions().dtype(at::kLong);
    const auto numbers = at::TensorOptions().dtype(at::kDouble);
    const auto edge_index = at::stack({at::from_blob(sender.data(), {edges}, integers),
                                          at::from_blob(receiver.data(), {edges}, integers)});
    const std::vector<at::Tensor> inputs = {
        at::from_blob(z.data(), {atoms}, integers),       // z
        at::from_blob(pos.data(), {atoms, 3}, numbers),   // pos, Å
        at::zeros({3, 3}, numbers),                       // cell: none
        edge_index,                                          // sender, receiver
        at::zeros({edges, 3}, integers),                  // shift
        at::zeros({1}, numbers),                          // total charge, e
        at::ones({atoms}, numbers),                       // owned: all of them
    };
    const auto outputs = model.run(inputs);  // energy, energies, forces, virial

    std::printf("energy %.12f eV\n", outputs[0].item<double>());
    const auto forces = outputs[2].contiguous();
    const double* f = forces.data_ptr<double>();
    for (int64_t i = 0; i < atoms; ++i)
        std::printf("%3lld %18.12f %18.12f %18.12f\n", static_cast<long long>(z[i]), f[3 * i],
                    f[3 * i + 1], f[3 * i + 2]);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
