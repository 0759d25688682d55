#include "pool.h"

#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace memoir {
namespace {

using Parallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
using Count = int (*)();

struct Runtime {
    std::string name = "std::thread";
    Parallel parallel = nullptr;
    Count thread = nullptr, threads = nullptr, nested = nullptr;
};

#if defined(__linux__)
// The library that serves torch's own calls of GOMP_parallel, whatever it is called and wherever it lies; "" for none. The loader binds such
// a call to the first library that is there for everybody (one that was preloaded comes first), else to one that libtorch_cpu itself needs.
std::string torchs_runtime() {
    void *torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (torch == nullptr) return "";
    void *found = dlsym(RTLD_DEFAULT, "GOMP_parallel");
    if (found == nullptr) found = dlsym(torch, "GOMP_parallel");
    dlclose(torch);
    Dl_info info = {};
    return found != nullptr && dladdr(found, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

bool load(const std::string &path, int mode, Runtime &runtime) {
    void *library = dlopen(path.c_str(), mode);
    if (library == nullptr) return false;
    Runtime candidate;
    candidate.name = path;
    candidate.parallel = reinterpret_cast<Parallel>(dlsym(library, "GOMP_parallel"));
    candidate.thread = reinterpret_cast<Count>(dlsym(library, "omp_get_thread_num"));
    candidate.threads = reinterpret_cast<Count>(dlsym(library, "omp_get_num_threads"));
    candidate.nested = reinterpret_cast<Count>(dlsym(library, "omp_in_parallel"));
    if (!candidate.parallel || !candidate.thread || !candidate.threads || !candidate.nested) return false;
    runtime = candidate;
    return true;
}
#endif

Runtime detect() {
    Runtime runtime;
#if defined(__linux__)
    const std::string path = torchs_runtime();
    if (!path.empty()) load(path, RTLD_NOW | RTLD_NOLOAD, runtime);
#endif
    return runtime;
}

Runtime &runtime() {
    static Runtime found = detect();
    return found;
}

struct Job {
    const std::function<void(int64_t)> *part;
    int64_t parts;
};

void work(void *data) {  // the team may be smaller than asked for: each thread takes every so-manieth part
    const Job &job = *static_cast<Job *>(data);
    const int64_t step = runtime().threads();
    for (int64_t p = runtime().thread(); p < job.parts; p += step) (*job.part)(p);
}

}  // namespace

void in_parts(int64_t parts, const std::function<void(int64_t)> &part) {
    if (parts <= 1) {
        if (parts == 1) part(0);
        return;
    }
    if (runtime().parallel != nullptr && !runtime().nested()) {
        Job job = {&part, parts};
        return runtime().parallel(work, &job, unsigned(parts), 0);
    }
    std::vector<std::thread> workers;
    for (int64_t p = 1; p < parts; ++p) workers.emplace_back([&part, p] { part(p); });
    part(0);
    for (auto &worker : workers) worker.join();
}

std::string pool_name() { return runtime().name; }

bool set_pool(const std::string &path) {
    if (path.empty()) {
        runtime() = Runtime();
        return true;
    }
#if defined(__linux__)
    return load(path, RTLD_NOW, runtime());
#else
    return false;
#endif
}

}  // namespace memoir
