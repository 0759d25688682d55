// How similar a query's words are to stored words, by letters, activations and meanings; see likeness.py. The values are
// those of the specification bit for bit, since rules compare them with limits.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

// What two words are to each other besides: they share a meaning, or exclude each other. Both never holds.
constexpr int32_t meant = 1, apart = 2;
// What is marked of a stored word: it has a digit, its code counts.
constexpr int32_t numeric = 1, coded = 2;

inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }

inline float bits_in(const uint64_t *words, int64_t width) {
    int count = 0;
    for (int64_t i = 0; i < width; ++i) count += __builtin_popcountll(words[i]);
    return float(count);
}

// Copies what is compared of the distinct stored words: one after another in memory, for loops over them.
void gather_distinct(const PairFeatures &a) {
    const PairRoom r = a.room;
    const int64_t U = a.distinct, D = a.sense_width;
    for (int64_t u = 0; u < U; ++u) {
        const int64_t line = a.line[u];
        r.word[u] = a.stored.word[line];
        r.contrast[u] = a.stored.contrast[line];
        r.member[u] = a.stored.member[line];
        r.number[u] = a.stored.number[line];
        r.ones[u] = bits_in(a.stored.spelling + line * a.spelling_width, a.spelling_width);
        for (int64_t i = 0; i < a.spelling_width; ++i) r.spelling[i * U + u] = a.stored.spelling[line * a.spelling_width + i];
        for (int64_t i = 0; i < a.meaning_width; ++i) r.meaning[i * U + u] = a.stored.meaning[line * a.meaning_width + i];
        for (int64_t i = 0; i < D; ++i) r.sense[u * D + i] = a.stored.sense[line * D + i];
    }
    for (int64_t i = 0; i < a.words * D; ++i) r.query_sense[i] = a.query.sense[i];
    std::memset(r.has_sense, 0, size_t(a.words));
}

void gather_places(const PairFeatures &a) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words;
    for (int64_t t = 0; t < T; ++t) {
        const int64_t place = a.place[t], line = a.line[a.which[t]];
        r.weight[t] = a.stored_place.weight[place];
        r.name[t] = a.stored_place.name[place];
        r.head[t] = a.stored_place.head[place];
        r.content[t] = a.stored.content[line];
        uint64_t any = 0;
        for (int64_t l = 0; l < a.code_width; ++l) {
            const uint64_t part = a.stored_place.code[place * a.code_width + l];
            r.code[l * T + t] = part;
            any |= part;
        }
        r.marks[t] = (a.stored.number[line] ? numeric : 0) | (any != 0 ? coded : 0);
    }
}

// Different words by letters: 0.95 for swapped letters, 0.9 for one more or less, otherwise up to 0.7.
inline float spelled_alike(const PairFeatures &a, int64_t i, int64_t u, float dice) {
    float value = dice >= 0.45f ? smaller(dice * 0.8f, 0.7f) : 0.0f;
    const int64_t line = a.line[u];
    if (dice >= 0.4f && a.query.length[i] >= 4 && a.stored.length[line] >= 4) {
        int gap = 0;
        for (int64_t l = 0; l < a.letters_width; ++l) {
            const int more = int(a.query.letters[i * a.letters_width + l]) - int(a.stored.letters[line * a.letters_width + l]);
            gap += more < 0 ? -more : more;
        }
        value = larger(value, gap == 0 ? 0.95f : gap == 1 && dice >= 0.5f ? 0.9f : 0.0f);
    }
    return value;
}

// What depends on the words alone, for query word i.
void compare_distinct(const PairFeatures &a, int64_t i) {
    const PairRoom r = a.room;
    const int64_t U = a.distinct, W = a.spelling_width, M = a.meaning_width;
    float *__restrict spelled = r.spelled + i * U;
    int32_t *__restrict kinds = r.kinds + i * U;
    const uint64_t *spelling = a.query.spelling + i * W, *meaning = a.query.meaning + i * M;
    const float ones = bits_in(spelling, W);
    for (int64_t u = 0; u < U; ++u) {
        int shared = 0;
        for (int64_t l = 0; l < W; ++l) shared += __builtin_popcountll(spelling[l] & r.spelling[l * U + u]);
        const float dice = 2 * float(shared) / larger(ones + r.ones[u], 1.0f);
        spelled[u] = dice < 0.4f ? 0.0f : spelled_alike(a, i, u, dice);
    }
    const int64_t word = a.query.word[i];
    const uint64_t contrast = a.query.contrast[i], member = a.query.member[i];
    const uint8_t number = a.query.number[i];
    for (int64_t u = 0; u < U; ++u) {
        uint64_t common = 0;
        for (int64_t l = 0; l < M; ++l) common |= meaning[l] & r.meaning[l * U + u];
        const bool exact = word == r.word[u];
        const bool excludes = (contrast & r.contrast[u]) != 0 && (member & r.member[u]) == 0 && !exact;
        spelled[u] = exact ? 1.0f : (number | r.number[u]) ? 0.0f : spelled[u];
        kinds[u] = excludes ? apart : exact || common != 0 ? meant : 0;
    }
}

// distances[t] = how many bits of query word i's code and stored word t's differ. Counted in each byte, and only then summed:
// compilers turn this into vector instructions, unlike a count of the processor's own.
void compare_codes(const PairFeatures &a, int64_t i) {
    constexpr uint64_t odd = 0x5555555555555555u, pairs = 0x3333333333333333u, halves = 0x0f0f0f0f0f0f0f0fu;
    constexpr int64_t most = 31;  // so many words' counts fit into a byte
    const int64_t T = a.stored_words, L = a.code_width;
    uint64_t *__restrict counts = a.room.counts;
    float *__restrict distances = a.room.by_code + i * T;
    for (int64_t t = 0; t < T; ++t) distances[t] = 0;
    for (int64_t begin = 0; begin < L; begin += most) {
        std::memset(counts, 0, size_t(T) * sizeof(uint64_t));
        for (int64_t l = begin; l < L && l < begin + most; ++l) {
            const uint64_t mine = a.query_place.code[i * L + l];
            const uint64_t *__restrict code = a.room.code + l * T;
            for (int64_t t = 0; t < T; ++t) {
                uint64_t bits = mine ^ code[t];
                bits -= (bits >> 1) & odd;
                bits = (bits & pairs) + ((bits >> 2) & pairs);
                counts[t] += (bits + (bits >> 4)) & halves;
            }
        }
        for (int64_t t = 0; t < T; ++t) {
            uint64_t sum = (counts[t] & 0x00ff00ff00ff00ffu) + ((counts[t] >> 8) & 0x00ff00ff00ff00ffu);
            sum += sum >> 32;
            sum += sum >> 16;
            distances[t] += float(int32_t(sum & 0xffffu));
        }
    }
}

// Query word i beside the T stored words.
void compare_places(const PairFeatures &a, int64_t i) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words, U = a.distinct;
    const float *__restrict spelled = r.spelled + i * U;
    const int32_t *__restrict kinds = r.kinds + i * U, *__restrict which = a.which, *__restrict marks = r.marks;
    float *__restrict by_spelling = r.by_spelling + i * T, *__restrict by_code = r.by_code + i * T;
    float *__restrict together = r.together + i * T;
    int32_t *__restrict by_kind = r.by_kind + i * T;
    const float bits = float(64 * a.code_width);
    const int32_t number = a.query.number[i] ? numeric : 0, known = a.query_coded[i] ? coded : 0;
    for (int64_t t = 0; t < T; ++t) {
        by_spelling[t] = spelled[which[t]];
        by_kind[t] = kinds[which[t]];
    }
    compare_codes(a, i);
    for (int64_t t = 0; t < T; ++t) {
        const float letters = by_spelling[t];
        const bool exact = letters == 1.0f;
        float alike = larger(1 - 2 * by_code[t] / bits, 0.0f);
        alike = (known & marks[t]) ? alike : 0.0f;
        alike = exact ? larger(alike, 0.9f) : ((number | marks[t]) & numeric) ? 0.0f : alike;
        const float both = larger(larger(smaller(1.3f * alike, 0.9f), by_kind[t] == meant ? 0.75f : 0.0f), letters);
        by_code[t] = alike;
        together[t] = by_kind[t] == apart ? 0.0f : both;
    }
}

// The cosine of query word i's own vector with those of the distinct stored words; from the second call on it is there.
const float *senses_of(const PairFeatures &a, int64_t i) {
    const PairRoom r = a.room;
    const int64_t U = a.distinct, D = a.sense_width;
    float *sensed = r.sensed + i * U;
    if (r.has_sense[i]) return sensed;
    r.has_sense[i] = 1;
    const int16_t *mine = r.query_sense + i * D;
    const float length = a.sense_length * a.sense_length;
    for (int64_t u = 0; u < U; ++u) {
        const int16_t *other = r.sense + u * D;
        int32_t product = 0;
        for (int64_t d = 0; d < D; ++d) product += int32_t(mine[d]) * int32_t(other[d]);
        const float cosine = smaller(larger(float(product) / length, 0.0f), 1.0f);
        sensed[u] = a.query.word[i] == r.word[u] ? 1.0f : r.kinds[i * U + u] == apart ? 0.0f : cosine;
    }
    return sensed;
}
