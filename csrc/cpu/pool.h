// Threads for the CPU kernels: the workers of the OpenMP runtime that torch has already loaded.
//
// A second OpenMP runtime beside torch's, or threads of our own, have to share the cores with torch's workers, which go on
// spinning for milliseconds after each of torch's operations (benchmarks/speed/threads.py measures it). So `in_parts` borrows the
// runtime: on Linux it asks the loader which library serves libtorch_cpu's calls of GOMP_parallel, a function that libgomp, libiomp5 and
// libomp all export. The library may lie in torch's folder (wheels), in an environment's (conda), in the system's, or be
// preloaded. Where there is none, threads are started for the call.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace memoir {

// Runs part(0) .. part(parts - 1), each once, on as many threads at most. No part may throw.
void in_parts(int64_t parts, const std::function<void(int64_t)> &part);

// The library whose workers serve, or "std::thread".
std::string pool_name();

// Another library to take workers from, by path; "" for std::thread. False when it does not load or exports none.
bool set_pool(const std::string &path);

}  // namespace memoir
