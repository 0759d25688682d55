// Looking signatures up.
#include <vector>

#include "../pool.h"
#include "bindings.h"

namespace memoir {
namespace {

// The smallest distance and its row; of equal distances the lower row.
struct Nearest {
    int64_t distance = INT64_MAX, row = -1;
    void offer(int64_t other, int64_t at) {
        if (other < distance || (other == distance && at < row)) {
            distance = other;
            row = at;
        }
    }
};

constexpr int64_t block_rows = 256;

// Calls each(first row of a block, its distances, how many) over all codes, on `parts` threads; `part` tells them apart.
template <class Each>
void scan(const uint8_t *query, const uint8_t *codes, int64_t rows, int64_t width, int64_t parts, Each each) {
    const Kernels *level = chosen();
    in_parts(parts, [&](int64_t p) {
        uint16_t distances[block_rows];
        const int64_t end = rows * (p + 1) / parts;
        for (int64_t row = rows * p / parts; row < end; row += block_rows) {
            const int64_t some = std::min(block_rows, end - row);
            level->hamming({query, codes + row * width, some, width, width, distances});
            each(p, row, distances, some);
        }
    });
}

Nearest best_of(const std::vector<Nearest> &found) {
    Nearest best;
    for (const Nearest &one : found) best.offer(one.distance, one.row);
    return best;
}

// The nearest code of one query, over all of them.
Nearest nearest_of_all(const uint8_t *query, const uint8_t *codes, int64_t rows, int64_t width, int threads) {
    const int64_t parts = parts_for(rows * width, threads);
    std::vector<Nearest> found(static_cast<size_t>(parts));
    scan(query, codes, rows, width, parts, [&](int64_t p, int64_t row, const uint16_t *distances, int64_t some) {
        Nearest best = found[size_t(p)];
        for (int64_t i = 0; i < some; ++i) best.offer(distances[i], row + i);
        found[size_t(p)] = best;
    });
    return best_of(found);
}

// The nearest code among the `candidates` (or somewhat more) whose slices are nearest to the query's slice.
Nearest nearest_of_candidates(const uint8_t *query, const uint8_t *codes, const uint8_t *slices, int64_t rows, int64_t width,
                              int64_t slice, int64_t candidates, int threads) {
    const int64_t parts = parts_for(rows * slice, threads), values = 8 * slice + 1;
    std::vector<uint16_t> distances(static_cast<size_t>(rows));
    std::vector<int64_t> histogram(size_t(parts * values), 0);
    scan(query, slices, rows, slice, parts, [&](int64_t p, int64_t row, const uint16_t *some, int64_t count) {
        int64_t *mine = histogram.data() + p * values;
        for (int64_t i = 0; i < count; ++i) {
            distances[size_t(row + i)] = some[i];
            ++mine[some[i]];
        }
    });
    int64_t bound = -1;
    for (int64_t total = 0; bound + 1 < values && total < candidates;) {
        ++bound;
        for (int64_t p = 0; p < parts; ++p) total += histogram[size_t(p * values + bound)];
    }
    std::vector<Nearest> found(static_cast<size_t>(parts));
    const Kernels *level = chosen();
    in_parts(parts, [&](int64_t p) {
        Nearest best;
        uint16_t exact = 0;
        for (int64_t row = rows * p / parts; row < rows * (p + 1) / parts; ++row)
            if (distances[size_t(row)] <= bound) {
                level->hamming({query, codes + row * width, 1, width, width, &exact});
                best.offer(exact, row);
            }
        found[size_t(p)] = best;
    });
    return best_of(found);
}

// For each query its nearest code's row and distance. `slices` 0: all codes are compared; otherwise see above.
void hamming_nearest(uintptr_t queries, int64_t count, uintptr_t codes, uintptr_t slices, int64_t rows, int64_t width,
                     int64_t slice, int64_t candidates, uintptr_t out_rows, uintptr_t out_distances, int threads) {
    require(rows > 0 && width > 0 && width <= 8191, "codes must be rows of 1 to 8191 bytes");
    py::gil_scoped_release unlocked;
    for (int64_t q = 0; q < count; ++q) {
        const auto *query = pointer<const uint8_t>(queries) + q * width;
        const Nearest best =
            slices == 0 ? nearest_of_all(query, pointer<const uint8_t>(codes), rows, width, threads)
                        : nearest_of_candidates(query, pointer<const uint8_t>(codes), pointer<const uint8_t>(slices), rows, width,
                                                slice, candidates, threads);
        pointer<int64_t>(out_rows)[q] = best.row;
        pointer<int64_t>(out_distances)[q] = best.distance;
    }
}

}  // namespace

void bind_hamming(py::module_ &m) {
    m.def("hamming_nearest", &hamming_nearest);
}

}  // namespace memoir
