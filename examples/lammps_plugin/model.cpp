#include "model.h"

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

struct Model::Program {
    explicit Program(const std::string& path) : loader(path) {}
    torch::inductor::AOTIModelPackageLoader loader;
};

Model::Model(const std::string& path) : program_(std::make_unique<Program>(path)) {
    for (const auto& [name, value] : program_->loader.get_metadata()) header_[name] = value;
}

Model::~Model() = default;

double Model::operator()(std::vector<int64_t>& z, std::vector<double>& pos,
                         std::vector<int64_t>& sender, std::vector<int64_t>& receiver,
                         std::vector<double>& owned, std::vector<double>& energies,
                         std::vector<double>& forces) {
    const auto atoms = static_cast<int64_t>(z.size());
    const auto edges = static_cast<int64_t>(sender.size());
    const auto integers = at::TensorOptions().dtype(at::kLong);
    const auto numbers = at::TensorOptions().dtype(at::kDouble);
    const std::vector<at::Tensor> inputs = {
        at::from_blob(z.data(), {atoms}, integers),
        at::from_blob(pos.data(), {atoms, 3}, numbers),
        at::zeros({3, 3}, numbers),
        at::stack({at::from_blob(sender.data(), {edges}, integers),
                   at::from_blob(receiver.data(), {edges}, integers)}),
        at::zeros({edges, 3}, integers),
        at::zeros({1}, numbers),
        at::from_blob(owned.data(), {atoms}, numbers),
    };
    const auto outputs = program_->loader.run(inputs);
    const auto e = outputs[1].contiguous(), f = outputs[2].contiguous();
    energies.assign(e.data_ptr<double>(), e.data_ptr<double>() + atoms);
    forces.assign(f.data_ptr<double>(), f.data_ptr<double>() + 3 * atoms);
    return outputs[0].item<double>();
}
