// What a pair style sees of an exported model: arrays in, arrays out, no header of torch.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

class Model {
  public:
    explicit Model(const std::string& path);
    ~Model();
    const std::map<std::string, std::string>& header() const { return header_; }

    // Energy of the owned atoms; energies [atoms] and forces [atoms, 3] are filled in.
    double operator()(std::vector<int64_t>& z, std::vector<double>& pos,
                      std::vector<int64_t>& sender, std::vector<int64_t>& receiver,
                      std::vector<double>& owned, std::vector<double>& energies,
                      std::vector<double>& forces);

  private:
    struct Program;
    std::unique_ptr<Program> program_;
    std::map<std::string, std::string> header_;
};
