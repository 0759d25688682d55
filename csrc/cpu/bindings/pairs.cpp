// The features of a query beside stored prompts: takes numpy arrays by name, checks them, and gathers the stored words.
#include <pybind11/numpy.h>

#include <initializer_list>
#include <memory>
#include <vector>

#include "bindings.h"

namespace memoir {
namespace {

// So many stored words are compared at a time, or one prompt's: it bounds the memory that a call works in.
constexpr int64_t words_at_once = 1024;

std::string shape_of(const std::vector<int64_t> &shape) {
    std::string text;
    for (int64_t size : shape) text += (text.empty() ? "" : ", ") + (size < 0 ? std::string("any") : std::to_string(size));
    return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

std::vector<int64_t> shape_of(const py::array &array) {
    return std::vector<int64_t>(array.shape(), array.shape() + array.ndim());
}

// Arrays by name, of the query or of the store.
struct Named {
    const char *argument;
    const py::dict &arrays;

    std::string said(const char *name) const { return std::string(argument) + "['" + name + "']"; }

    // The array of this name, with a shape in which -1 stands for any size. Throws ValueError or TypeError.
    template <class T>
    py::array take(const char *name, std::initializer_list<int64_t> shape) const {
        const auto key = py::str(name);
        PyObject *value = PyDict_GetItemWithError(arrays.ptr(), key.ptr());
        if (value == nullptr) throw py::value_error(said(name) + " is missing: give all the arrays of " + argument);
        if (!py::isinstance<py::array>(value)) throw py::type_error(said(name) + " must be a numpy array");
        auto array = py::reinterpret_borrow<py::array>(value);
        bool fits = py::isinstance<py::array_t<T, py::array::c_style>>(value) && size_t(array.ndim()) == shape.size();
        for (size_t i = 0; fits && i < shape.size(); ++i)
            fits = shape.begin()[i] < 0 || shape.begin()[i] == array.shape(py::ssize_t(i));
        if (!fits) {
            const std::string wanted = py::str(py::dtype::of<T>()), got = py::str(array.dtype());
            throw py::value_error(said(name) + " must be a contiguous " + wanted + " array of shape " + shape_of(shape) + ", got " + got +
                                  " of shape " + shape_of(shape_of(array)));
        }
        return array;
    }

    template <class T>
    const T *data(const char *name, std::initializer_list<int64_t> shape) const {
        return static_cast<const T *>(take<T>(name, shape).data());
    }

    template <class T>
    int64_t width(const char *name, int64_t count) const {
        return take<T>(name, {count, -1}).shape(1);
    }

    const uint8_t *marks(const char *name, int64_t count) const {
        return reinterpret_cast<const uint8_t *>(data<bool>(name, {count}));
    }

    PairWords words(const PairFeatures &a, int64_t count) const {
        return {data<int64_t>("word", {count}), data<uint64_t>("spelling", {count, a.spelling_width}),
                data<uint8_t>("letters", {count, a.letters_width}), data<uint8_t>("length", {count}),
                data<uint64_t>("meaning", {count, a.meaning_width}), data<uint64_t>("contrast", {count}),
                data<uint64_t>("member", {count}), marks("number", count), marks("content", count),
                data<int8_t>("sense", {count, a.sense_width})};
    }

    PairPlaces places(const PairFeatures &a, int64_t count) const {
        return {data<uint64_t>("code", {count, a.code_width}), data<float>("weight", {count}), marks("name", count),
                marks("head", count)};
    }
};

void read_query(PairFeatures &a, const Named &query) {
    a.words = query.take<int64_t>("word", {-1}).shape(0);
    a.sentences = query.take<bool>("asks", {-1}).shape(0);
    require(a.words > 0, "query['word'] must have at least one word, got none");
    a.spelling_width = query.width<uint64_t>("spelling", a.words);
    a.letters_width = query.width<uint8_t>("letters", a.words);
    a.meaning_width = query.width<uint64_t>("meaning", a.words);
    a.sense_width = query.width<int8_t>("sense", a.words);
    a.code_width = query.width<uint64_t>("code", a.words);
    require(a.code_width > 0, "query['code'] must have at least one column, got none");
    a.query = query.words(a, a.words);
    a.query_place = query.places(a, a.words);
    a.query_coded = query.marks("coded", a.words);
    a.sentence = query.data<int32_t>("sentence", {a.words});
    a.asks = query.marks("asks", a.sentences);
    a.answer = query.data<uint16_t>("answer", {a.sentences});
    a.demands = query.data<uint8_t>("demands", {a.sentences});
    int64_t before = -1;
    for (int64_t i = 0; i < a.words; ++i) {
        if (a.sentence[i] != before + 1 && (a.sentence[i] != before || i == 0))
            throw py::value_error("query['sentence'] must begin at 0 and ascend by at most 1, got " + std::to_string(a.sentence[i]) +
                                  " after " + std::to_string(before) + " at word " + std::to_string(i));
        before = a.sentence[i];
    }
    require(before + 1 == a.sentences, "query['asks'] must have an entry for each of the " + std::to_string(before + 1) +
                                           " sentences of query['sentence'], got " + std::to_string(a.sentences));
}

// The stored prompts, all of them.
struct Store {
    int64_t prompts, words, distinct;
    const int32_t *lines;    // (words)
    const uint32_t *bounds;  // (prompts + 1)
};

Store read_store(PairFeatures &a, const Named &store) {
    Store s;
    s.words = store.take<int32_t>("words", {-1}).shape(0);
    s.distinct = store.take<int64_t>("word", {-1}).shape(0);
    s.prompts = store.take<uint32_t>("bounds", {-1}).shape(0) - 1;
    require(s.prompts >= 0, "store['bounds'] must have at least one entry, got none");
    s.lines = store.data<int32_t>("words", {s.words});
    s.bounds = store.data<uint32_t>("bounds", {s.prompts + 1});
    a.stored = store.words(a, s.distinct);
    a.stored_place = store.places(a, s.words);
    a.stored_answer = store.data<uint16_t>("answer", {s.prompts});
    a.stored_asks = store.marks("asks", s.prompts);
    a.stored_text = store.data<int64_t>("text", {s.prompts});
    a.stored_offers = store.data<uint8_t>("offers", {s.prompts});
    return s;
}

// The words of some stored prompts, and which of them are the same.
struct Taken {
    std::vector<int64_t> first, place, line;
    std::vector<int32_t> which, slots;

    void take(const Store &s, const int64_t *rows, int64_t count) {
        first.assign(1, 0);
        place.clear();
        for (int64_t c = 0; c < count; ++c) {
            for (int64_t at = s.bounds[rows[c]]; at < int64_t(s.bounds[rows[c] + 1]); ++at) place.push_back(at);
            first.push_back(int64_t(place.size()));
        }
        line.clear();
        which.resize(place.size());
        size_t size = 64;
        while (size < 2 * place.size()) size *= 2;
        slots.assign(size, -1);  // a hash table with open addresses
        for (size_t t = 0; t < place.size(); ++t) {
            const int64_t wanted = s.lines[place[t]];
            size_t at = (uint64_t(wanted) * 0x9e3779b97f4a7c15u >> 32) & (size - 1);
            while (slots[at] >= 0 && line[size_t(slots[at])] != wanted) at = (at + 1) & (size - 1);
            if (slots[at] < 0) {
                slots[at] = int32_t(line.size());
                line.push_back(wanted);
            }
            which[t] = slots[at];
        }
    }
};

// Gives out parts of a buffer, or without one only counts how large it has to be.
struct Parts {
    char *base;
    size_t used = 0;

    template <class T>
    void operator()(T *&part, int64_t count) {
        part = base == nullptr ? nullptr : reinterpret_cast<T *>(base + used);
        used += (size_t(count) * sizeof(T) + 63) / 64 * 64;
    }
};

size_t arrange(PairFeatures &a, char *base) {
    Parts give = {base};
    PairRoom &r = a.room;
    const int64_t n = a.words, U = a.distinct, T = a.stored_words, D = a.sense_width;
    int64_t m = 0;
    for (int64_t c = 0; c < a.count; ++c) m = std::max(m, a.first[c + 1] - a.first[c]);
    give(r.word, U), give(r.spelling, a.spelling_width * U), give(r.meaning, a.meaning_width * U);
    give(r.contrast, U), give(r.member, U), give(r.ones, U), give(r.number, U);
    give(r.sense, U * D), give(r.query_sense, n * D);
    give(r.spelled, n * U), give(r.sensed, n * U), give(r.kinds, n * U), give(r.has_sense, n);
    give(r.code, a.code_width * T), give(r.weight, T);
    give(r.name, T), give(r.head, T), give(r.content, T), give(r.marks, T), give(r.anywhere, T), give(r.counts, T);
    give(r.by_spelling, n * T), give(r.by_code, n * T), give(r.together, n * T), give(r.by_kind, n * T);
    give(r.best, a.sentences * T), give(r.left_best, n * m), give(r.same, n * m);
    for (float *&line : r.of_key) give(line, m);
    for (float *&line : r.of_query) give(line, n);
    for (uint8_t *&line : r.key_flag) give(line, m);
    for (uint8_t *&line : r.query_flag) give(line, n);
    give(r.sum, D), give(r.query_sum, D);
    return give.used;
}

void check_rows(const Store &s, const int64_t *rows, int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
        if (rows[c] < 0 || rows[c] >= s.prompts)
            throw py::value_error("rows must be in [0, " + std::to_string(s.prompts - 1) + "], got " + std::to_string(rows[c]));
        const int64_t first = s.bounds[rows[c]], end = s.bounds[rows[c] + 1];
        if (first > end || end > s.words)
            throw py::value_error("store['bounds'] must ascend up to " + std::to_string(s.words) + ", got " + std::to_string(first) +
                                  ".." + std::to_string(end) + " for row " + std::to_string(rows[c]));
        if (end > first) check_indices("store['words']", s.lines + first, end - first, s.distinct);
    }
}

// (F, C) float32: the features of a query and the stored prompts `rows` (C,).
py::array_t<float> pair_features(const py::dict &query, const py::dict &store, const py::array_t<int64_t, py::array::c_style> &rows,
                                 int64_t text, float sense_length) {
    PairFeatures a = {};
    a.sense_length = sense_length;
    a.text = text;
    require(rows.ndim() == 1, "rows must have one dimension, got " + std::to_string(rows.ndim()));
    read_query(a, {"query", query});
    const Store s = read_store(a, {"store", store});
    const int64_t all = rows.shape(0), features = int64_t(PairFeature::count);
    check_rows(s, rows.data(), all);
    py::array_t<float> out({features, all});
    float *values = out.mutable_data();
    py::gil_scoped_release unlocked;
    Taken taken;
    std::unique_ptr<char[]> room;
    size_t size = 0;
    for (int64_t begin = 0, end = 0; begin < all; begin = end) {
        int64_t words = 0;
        for (end = begin; end < all; ++end) {
            words += int64_t(s.bounds[rows.data()[end] + 1]) - int64_t(s.bounds[rows.data()[end]]);
            if (end > begin && words > words_at_once) break;
        }
        taken.take(s, rows.data() + begin, end - begin);
        a.count = end - begin;
        a.stored_words = int64_t(taken.place.size()), a.distinct = int64_t(taken.line.size());
        a.first = taken.first.data(), a.place = taken.place.data(), a.line = taken.line.data(), a.which = taken.which.data();
        a.rows = rows.data() + begin;
        const size_t needed = arrange(a, nullptr);
        if (needed > size) {
            room.reset(new char[needed]);
            size = needed;
        }
        arrange(a, room.get());
        a.out = values + begin;
        a.line_stride = all;
        chosen()->pair_features(a);
    }
    return out;
}

py::list names() {
    py::list found;
#define MEMOIR_NAME(name) found.append(#name);
    MEMOIR_PAIR_FEATURES(MEMOIR_NAME)
#undef MEMOIR_NAME
    return found;
}

}  // namespace

void bind_pairs(py::module_ &m) {
    m.def("pair_features", &pair_features, py::arg("query").none(false), py::arg("store").none(false), py::arg("rows").noconvert(),
          py::arg("text"), py::arg("sense_length"));
    m.def("pair_feature_names", &names);
}

}  // namespace memoir
