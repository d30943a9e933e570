// pair_style dreibein MODEL.pt2
// pair_coeff * * O H          (one element for each atom type)
//
// A model exported by `dreibein export --aot`, on the atoms of each process and a halo of as many
// cutoffs as the network hears edges away. Units metal, newton on.

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "model.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

namespace LAMMPS_NS {

class PairDreibein : public Pair {
  public:
    explicit PairDreibein(LAMMPS* lmp) : Pair(lmp) {
        single_enable = 0;
        restartinfo = 0;
        one_coeff = 1;
        manybody_flag = 1;
    }

    ~PairDreibein() override {
        if (allocated) {
            memory->destroy(setflag);
            memory->destroy(cutsq);
        }
    }

    void settings(int count, char** words) override {
        if (count != 1) error->all(FLERR, "pair_style dreibein takes one exported model");
        try {
            model_ = std::make_unique<Model>(words[0]);
            cutoff_ = std::stod(model_->header().at("cutoff"));
            hops_ = std::stoi(model_->header().at("hops"));
        } catch (const std::exception& problem) {
            error->all(FLERR, "cannot read the model {}: {}", words[0], problem.what());
        }
    }

    void coeff(int count, char** words) override {
        const int types = atom->ntypes;
        if (count != 2 + types)
            error->all(FLERR, "pair_coeff of dreibein takes * * and {} elements", types);
        std::istringstream numbers(model_->header().at("elements"));
        std::istringstream symbols(model_->header().at("symbols"));
        number_.assign(types + 1, 0);
        int64_t number;
        std::string symbol;
        while (numbers >> number && symbols >> symbol)
            for (int type = 1; type <= types; ++type)
                if (symbol == words[1 + type]) number_[type] = number;
        for (int type = 1; type <= types; ++type)
            if (!number_[type])
                error->all(FLERR, "the model does not know element {}", words[1 + type]);
        if (!allocated) {
            allocated = 1;
            memory->create(setflag, types + 1, types + 1, "pair:setflag");
            memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
        }
        for (int i = 0; i <= types; ++i)
            for (int j = 0; j <= types; ++j) setflag[i][j] = 1;
    }

    void init_style() override {
        if (!force->newton_pair) error->all(FLERR, "pair_style dreibein needs newton on");
        if (std::string(update->unit_style) != "metal")
            error->all(FLERR, "pair_style dreibein needs units metal");
        comm->cutghostuser = std::max(comm->cutghostuser, hops_ * cutoff_ + neighbor->skin);
        neighbor->add_request(this, NeighConst::REQ_FULL | NeighConst::REQ_GHOST);
    }

    double init_one(int, int) override { return cutoff_; }

    void compute(int eflag, int vflag) override {
        ev_init(eflag, vflag);
        const int own = atom->nlocal, all = own + atom->nghost;
        z_.resize(all), owned_.assign(all, 0.0), pos_.resize(3 * all);
        for (int i = 0; i < all; ++i) {
            z_[i] = number_[atom->type[i]];
            if (i < own) owned_[i] = 1.0;
            std::copy(atom->x[i], atom->x[i] + 3, pos_.begin() + 3 * i);
        }
        sender_.clear(), receiver_.clear();
        for (int place = 0; place < list->inum + list->gnum; ++place) {
            const int i = list->ilist[place];
            for (int k = 0; k < list->numneigh[i]; ++k) {
                const int j = list->firstneigh[i][k] & NEIGHMASK;
                double squared = 0.0;
                for (int axis = 0; axis < 3; ++axis) {
                    const double d = atom->x[j][axis] - atom->x[i][axis];
                    squared += d * d;
                }
                if (squared < cutoff_ * cutoff_) sender_.push_back(j), receiver_.push_back(i);
            }
        }
        double energy = 0.0;
        try {
            energy = (*model_)(z_, pos_, sender_, receiver_, owned_, energies_, forces_);
        } catch (const std::exception& problem) {
            error->one(FLERR, "the model failed: {}", problem.what());
        }
        for (int i = 0; i < all; ++i)
            for (int axis = 0; axis < 3; ++axis) atom->f[i][axis] += forces_[3 * i + axis];
        if (eflag_global) eng_vdwl += energy;
        if (eflag_atom)
            for (int i = 0; i < own; ++i) eatom[i] += energies_[i];
        if (vflag_fdotr) virial_fdotr_compute();
    }

  private:
    std::unique_ptr<Model> model_;
    double cutoff_ = 0.0;
    int hops_ = 0;
    std::vector<int64_t> number_, z_, sender_, receiver_;
    std::vector<double> pos_, owned_, energies_, forces_;
};

}  // namespace LAMMPS_NS

// The entry point of a plugin, as LAMMPS' lammpsplugin.h declares it.
extern "C" {
struct lammpsplugin_t {
    const char *version, *style, *name, *info, *author;
    union {
        void* (*v1)(void*);
        void* (*v2)(void*, int, char**);
    } creator;
    void* handle;
};

void lammpsplugin_init(void* lmp, void* handle, void* regfunc) {
    static lammpsplugin_t plugin;
    const auto add = reinterpret_cast<void (*)(lammpsplugin_t*, void*)>(regfunc);
    plugin.version = static_cast<LAMMPS_NS::LAMMPS*>(lmp)->version;
    plugin.style = "pair";
    plugin.name = "dreibein";
    plugin.info = "exported equivariant potentials";
    plugin.author = "the Dreibein developers";
    plugin.creator.v1 = [](void* lmp) -> void* {
        return new LAMMPS_NS::PairDreibein(static_cast<LAMMPS_NS::LAMMPS*>(lmp));
    };
    plugin.handle = handle;
    add(&plugin, lmp);
}
}
