// The first stage of a look-up: wordings that share words with the query, and those whose summed codes are nearest.
#include <pybind11/numpy.h>

#include <vector>

#include "bindings.h"

namespace memoir {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// (L,) uint64: the signs of the weighted sum of codes (n, L), as bits; bits from `bits` on are 0.
Array<uint64_t> summed_codes(const Array<uint64_t> &code, const Array<float> &weight, const Array<bool> &coded, int64_t bits) {
    require(code.ndim() == 2, "code must have 2 dimensions, got " + std::to_string(code.ndim()));
    const int64_t words = code.shape(0), width = code.shape(1);
    require(weight.ndim() == 1 && weight.shape(0) == words, "weight must have an entry for each of the " + std::to_string(words) + " words");
    require(coded.ndim() == 1 && coded.shape(0) == words, "coded must have an entry for each of the " + std::to_string(words) + " words");
    require(bits >= 0 && bits <= 64 * width, "bits must be in [0, " + std::to_string(64 * width) + "], got " + std::to_string(bits));
    std::vector<float> totals(size_t(64 * width));
    chosen()->sum_codes({code.data(), weight.data(), reinterpret_cast<const uint8_t *>(coded.data()), words, width, totals.data()});
    Array<uint64_t> out(width);
    uint64_t *packed = out.mutable_data();
    for (int64_t l = 0; l < width; ++l) packed[l] = 0;
    for (int64_t b = 0; b < bits; ++b) packed[b / 64] |= uint64_t(totals[size_t(b)] > 0) << (b % 64);
    return out;
}

// (n,) bool or None: the rows that count.
const bool *opened(const py::object &open_rows, int64_t rows, py::object &kept) {
    if (open_rows.is_none()) return nullptr;
    require(py::isinstance<Array<bool>>(open_rows), "open_rows must be a contiguous bool array or None");
    kept = open_rows;
    const auto array = py::reinterpret_borrow<Array<bool>>(open_rows);
    require(array.ndim() == 1 && array.shape(0) == rows, "open_rows must have an entry for each of the " + std::to_string(rows) + " rows");
    return array.data();
}

Array<int64_t> as_rows(const std::vector<int64_t> &found) {
    Array<int64_t> out(int64_t(found.size()));
    std::copy(found.begin(), found.end(), out.mutable_data());
    return out;
}

// The first `number` of some rows by `before`, in order.
template <class Before>
Array<int64_t> first_of(std::vector<int64_t> &rows, int64_t number, Before before) {
    const auto end = rows.begin() + std::min<int64_t>(std::max<int64_t>(number, 0), int64_t(rows.size()));
    std::partial_sort(rows.begin(), end, rows.end(), before);
    rows.erase(end, rows.end());
    return as_rows(rows);
}

// At most `number` rows whose sums (R, L) are nearest to the code (L,), the newest among equals.
Array<int64_t> nearest_sums(const Array<uint64_t> &sums, const Array<uint64_t> &code, int64_t number, const py::object &open_rows) {
    require(sums.ndim() == 2 && code.ndim() == 1 && sums.shape(1) == code.shape(0), "sums must be (R, L) and code (L,)");
    const int64_t rows = sums.shape(0), width = 8 * sums.shape(1);
    require(width >= 1 && width <= 8191, "codes must have 1 to 8191 bytes");
    py::object kept;
    const bool *open = opened(open_rows, rows, kept);
    std::vector<uint16_t> distances(static_cast<size_t>(rows));
    chosen()->hamming({reinterpret_cast<const uint8_t *>(code.data()), reinterpret_cast<const uint8_t *>(sums.data()), rows, width,
                       width, distances.data()});
    std::vector<int64_t> found;
    found.reserve(size_t(rows));
    for (int64_t row = 0; row < rows; ++row)
        if (open == nullptr || open[row]) found.push_back(row);
    return first_of(found, number, [&](int64_t one, int64_t other) {
        const int a = distances[size_t(one)], b = distances[size_t(other)];
        return a < b || (a == b && one > other);
    });
}

// Lists of rows, checked; and the rows' totals, which are all zero again in the end.
struct Postings {
    std::vector<py::buffer_info> lists;
    double *totals;
    int64_t read = 0;

    Postings(const py::list &postings, double *totals, int64_t rows) : totals(totals) {
        for (const py::handle &list : postings) {
            require(PyObject_CheckBuffer(list.ptr()), "postings must be arrays of uint32");
            py::buffer_info info = py::reinterpret_borrow<py::buffer>(list).request();
            require(info.ndim == 1 && info.itemsize == 4 && info.strides[0] == 4, "postings must be arrays of uint32");
            read += info.size;
            lists.push_back(std::move(info));
        }
        for (size_t l = 0; l < lists.size(); ++l)
            each(l, [&](int64_t row) {
                if (row >= rows) throw py::value_error("postings must be in [0, " + std::to_string(rows - 1) + "], got " + std::to_string(row));
            });
    }
    ~Postings() {
        for (size_t l = 0; l < lists.size(); ++l) each(l, [&](int64_t row) { totals[row] = 0; });
    }
    template <class Each>
    void each(size_t l, Each call) const {
        const auto *rows = static_cast<const uint32_t *>(lists[l].ptr);
        for (int64_t i = 0; i < lists[l].size; ++i) call(int64_t(rows[i]));
    }
};

// At most `number` rows with the highest scores, the newest among equals. A row's score is the sum of the `worth` of the
// lists of rows that hold it, divided by its size; a row occurs once in a list. scores (R,) is all zero, and is again.
Array<int64_t> rows_by_words(const py::list &postings, const Array<double> &worth, const Array<float> &size, Array<double> &scores,
                             int64_t number, const py::object &open_rows) {
    require(worth.ndim() == 1 && worth.shape(0) == int64_t(postings.size()), "worth must have an entry for each list of postings");
    require(size.ndim() == 1 && scores.ndim() == 1 && scores.shape(0) >= size.shape(0), "scores must have an entry for each row");
    const int64_t rows = size.shape(0);
    py::object kept;
    const bool *open = opened(open_rows, rows, kept);
    double *total = scores.mutable_data();
    const Postings lists(postings, total, rows);
    std::vector<int64_t> found;
    found.reserve(size_t(lists.read));
    for (size_t l = 0; l < lists.lists.size(); ++l)
        lists.each(l, [&](int64_t row) {
            if (total[row] == 0 && (open == nullptr || open[row])) found.push_back(row);
            total[row] += worth.data()[l];
        });
    // A word of no weight leaves a row's total at zero: the row may be there twice.
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    for (int64_t row : found) total[row] /= double(size.data()[row]);
    return first_of(found, number, [&](int64_t one, int64_t other) {
        return total[one] > total[other] || (total[one] == total[other] && one > other);
    });
}

}  // namespace

void bind_candidates(py::module_ &m) {
    m.def("summed_codes", &summed_codes, py::arg("code").noconvert(), py::arg("weight").noconvert(), py::arg("coded").noconvert(),
          py::arg("bits"));
    m.def("nearest_sums", &nearest_sums, py::arg("sums").noconvert(), py::arg("code").noconvert(), py::arg("number"),
          py::arg("open_rows"));
    m.def("rows_by_words", &rows_by_words, py::arg("postings"), py::arg("worth").noconvert(), py::arg("size").noconvert(),
          py::arg("scores").noconvert(), py::arg("number"), py::arg("open_rows"));
}

}  // namespace memoir
