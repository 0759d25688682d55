// Which SIMD level runs, and whose threads.
#include <cstdlib>
#include <vector>

#include "../pool.h"
#include "bindings.h"

namespace memoir {
namespace {

std::vector<const Kernels *> supported() {
    std::vector<const Kernels *> levels;
    for (const Kernels *level : {&scalar_kernels, &avx2_kernels, &avx512_kernels})
        if (level->runs_here()) levels.push_back(level);
    return levels;
}

std::string names() {
    std::string text;
    for (const Kernels *level : supported()) text += (text.empty() ? "" : ", ") + std::string(level->name);
    return text;
}

const Kernels *choose() {
    const char *asked = std::getenv("MEMOIR_FAST_SIMD");
    if (asked == nullptr || *asked == 0) return supported().back();
    for (const Kernels *level : supported())
        if (std::string(level->name) == asked) return level;
    throw py::value_error("MEMOIR_FAST_SIMD must be one of " + names() + " on this CPU, got '" + asked + "'");
}

const Kernels *&current() {
    static const Kernels *level = choose();
    return level;
}

void set_level(const std::string &name) {
    for (const Kernels *level : supported())
        if (name == level->name) {
            current() = level;
            return;
        }
    throw py::value_error("SIMD level must be one of " + names() + " on this CPU, got '" + name + "'");
}

py::list levels() {
    py::list found;
    for (const Kernels *level : supported()) found.append(level->name);
    return found;
}

}  // namespace

const Kernels *chosen() { return current(); }

void bind_levels(py::module_ &m) {
    m.def("level", [] { return chosen()->name; });
    m.def("set_level", &set_level);
    m.def("levels", &levels);
    m.def("pool_name", &pool_name);
    m.def("set_pool", &set_pool);
}

}  // namespace memoir
