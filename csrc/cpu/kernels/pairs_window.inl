// One stored prompt beside the part of the query that is about it; see pairs.py. Sums are in double, in the words' order: a
// product of two floats is exact there, so no level's fused multiply-add changes a bit.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

// Stored prompt c, its words t to t + m of all, and the query's window: the words from first to last, whose sentences end
// before `behind`.
struct Seen {
    int64_t c, t, m, first, last, behind;
    int64_t core_first, core_last;  // the core: the window from its first to its last word that matches well
};

// A weighted mean; 0 if all weights are.
struct Mean {
    double sum = 0, weight = 0;
    void add(float value, float of) {
        sum += double(value) * double(of);
        weight += double(of);
    }
    float value() const { return float(sum / (weight > 1e-6 ? weight : 1e-6)); }
};

// The smallest similarity of some words. The lighter a word beside `most`, the less it lowers the result.
struct Weakest {
    double most, value = 1;
    explicit Weakest(float largest) : most(largest > 1e-6f ? double(largest) : 1e-6) {}
    void add(float similarity, float weight) {
        const double lowered = 1 - (1 - double(similarity)) * (double(weight) / most);
        value = lowered < value ? lowered : value;
    }
};

inline void put(const PairFeatures &a, const Seen &s, PairFeature which, double value) {
    a.out[int64_t(which) * a.line_stride + s.c] = float(value);
}

inline float got(const PairFeatures &a, const Seen &s, PairFeature which) {
    return a.out[int64_t(which) * a.line_stride + s.c];
}

// The best of each sentence's words beside each stored word, and whether any word shares a meaning with it.
void sum_up_sentences(const PairFeatures &a) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words;
    std::memset(r.best, 0, size_t(a.sentences * T) * sizeof(float));
    std::memset(r.anywhere, 0, size_t(T) * sizeof(int32_t));
    for (int64_t i = 0; i < a.words; ++i) {
        float *__restrict best = r.best + a.sentence[i] * T;
        const float *__restrict together = r.together + i * T;
        const int32_t *__restrict kind = r.by_kind + i * T;
        int32_t *__restrict anywhere = r.anywhere;
        for (int64_t t = 0; t < T; ++t) best[t] = larger(best[t], together[t]);
        for (int64_t t = 0; t < T; ++t) anywhere[t] |= kind[t];
    }
}

// The window that covers most of the prompt, one sentence or two. A second one costs a little, and of nearly equal windows
// the later wins.
void find_window(const PairFeatures &a, Seen &s) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words, S = a.sentences;
    int64_t chosen = 0, length = 1;
    double total = 0, most = -1;
    for (int64_t j = 0; j < s.m; ++j) total += double(r.weight[s.t + j]);
    total = total > 1e-6 ? total : 1e-6;
    for (int64_t two = 0; two < 2; ++two)
        for (int64_t n = 0; n + two < S; ++n) {
            const float *best = r.best + n * T + s.t, *next = best + two * T;
            double sum = 0;
            for (int64_t j = 0; j < s.m; ++j) sum += double(larger(best[j], next[j])) * double(r.weight[s.t + j]);
            const double score = sum / total + 0.02 * double(n + two) / double(S) - (two ? 0.08 : 0.0);
            if (score > most) {
                most = score;
                chosen = n;
                length = 1 + two;
            }
        }
    s.behind = chosen + length;
    s.first = 0;
    while (a.sentence[s.first] != chosen) ++s.first;
    s.last = s.first;
    while (s.last < a.words && a.sentence[s.last] < s.behind) ++s.last;
}

// Which best value of a word stands in which line of `of_key` and `of_query`.
enum Best { TOGETHER, SPELLED, CODED, MEANT, KNOWN, LEFT, LEFT_CODE, NAMED, ALIKE = NAMED };
enum Flag { SAME, APART, ASKS };

// For each word the best of its values with the other side's words.
void best_of_words(const PairFeatures &a, Seen &s) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words, w = s.last - s.first;
    for (float *line : r.of_key) std::memset(line, 0, size_t(s.m) * sizeof(float));
    for (float *line : r.of_query) std::memset(line, 0, size_t(w) * sizeof(float));
    std::memset(r.key_flag[APART], 0, size_t(s.m));
    for (int64_t i = 0; i < w; ++i) {
        const int64_t word = s.first + i, at = word * T + s.t;
        const bool named = a.query_place.name[word] != 0;
        float together = 0, spelled = 0, coded = 0;
        for (int64_t j = 0; j < s.m; ++j) {
            const float t = r.together[at + j], l = r.by_spelling[at + j], c = r.by_code[at + j];
            together = larger(together, t);
            spelled = larger(spelled, l);
            coded = larger(coded, c);
            r.of_key[TOGETHER][j] = larger(r.of_key[TOGETHER][j], t);
            r.of_key[SPELLED][j] = larger(r.of_key[SPELLED][j], l);
            r.of_key[CODED][j] = larger(r.of_key[CODED][j], c);
            r.of_key[MEANT][j] = larger(r.of_key[MEANT][j], r.by_kind[at + j] == meant ? 1.0f : 0.0f);
            r.of_key[NAMED][j] = larger(r.of_key[NAMED][j], named ? l : 0.0f);
            r.key_flag[APART][j] |= r.by_kind[at + j] == apart;
        }
        r.of_query[TOGETHER][i] = together;
        r.of_query[SPELLED][i] = spelled;
        r.of_query[CODED][i] = coded;
    }
    for (int64_t j = 0; j < s.m; ++j) r.key_flag[SAME][j] = r.of_key[SPELLED][j] >= 0.85f;
    for (int64_t i = 0; i < w; ++i) r.query_flag[SAME][i] = r.of_query[SPELLED][i] >= 0.85f;
    s.core_first = s.first;
    s.core_last = s.last;
    const auto strong = [&](int64_t word) {
        return r.of_query[TOGETHER][word - s.first] >= 0.7f && a.query_place.weight[word] > 0.05f;
    };
    while (s.core_first < s.last && !strong(s.core_first)) ++s.core_first;
    if (s.core_first == s.last) {
        s.core_first = s.first;
        return;
    }
    while (!strong(s.core_last - 1)) --s.core_last;
}
