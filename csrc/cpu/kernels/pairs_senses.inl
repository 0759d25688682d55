// Similarity by the words' own meanings, of the words left on both sides when equal ones are removed; and swaps. See verify.py.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

// The values of each pair of words, and the best of each word's: KNOWN by its meaning or letters, LEFT and LEFT_CODE
// among the words without an equal, ALIKE of window words also by the lexicon. Returns the best of two head words.
float compare_senses(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words;
    float heads = 0;
    for (int64_t i = s.first; i < s.last; ++i) {
        const float *sensed = senses_of(a, i), *spelled = r.by_spelling + i * T + s.t, *coded = r.by_code + i * T + s.t;
        const int32_t *kind = r.by_kind + i * T + s.t;
        const int64_t w = i - s.first;
        const bool named = a.query_place.name[i] != 0, head = a.query_place.head[i] != 0, left_here = !r.query_flag[SAME][w];
        float best_known = 0, best_left = 0, best_alike = 0;
        for (int64_t j = 0; j < s.m; ++j) {
            const bool same = spelled[j] >= 0.85f, left = left_here && !r.key_flag[SAME][j];
            const float sense = (named || r.name[s.t + j]) && spelled[j] != 1.0f ? 0.0f : sensed[a.which[s.t + j]];
            const float other = kind[j] == meant ? 1.0f : 0.0f, known = larger(sense, same ? spelled[j] : 0.0f);
            const float among_left = left ? larger(sense, 0.5f * other) : 0.0f, alike = larger(known, 0.6f * other);
            r.same[w * s.m + j] = same;
            r.left_best[w * s.m + j] = among_left;
            r.of_key[KNOWN][j] = larger(r.of_key[KNOWN][j], known);
            r.of_key[LEFT][j] = larger(r.of_key[LEFT][j], among_left);
            r.of_key[LEFT_CODE][j] = larger(r.of_key[LEFT_CODE][j], left ? coded[j] : 0.0f);
            best_known = larger(best_known, known);
            best_left = larger(best_left, among_left);
            best_alike = larger(best_alike, alike);
            if (head && r.head[s.t + j]) heads = larger(heads, alike);
        }
        r.of_query[KNOWN][w] = best_known;
        r.of_query[LEFT][w] = best_left;
        r.of_query[ALIKE][w] = best_alike;
    }
    return heads;
}

// The stored prompt's words.
int64_t key_senses(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    Mean all, relation;
    double left_weight = 0, left = 0, code = 0, head_sum = 0;
    int64_t heads = 0, light = 0, light_same = 0;
    for (int64_t j = 0; j < s.m; ++j) {
        const float weight = r.weight[s.t + j], known = r.of_key[KNOWN][j];
        const bool same = r.key_flag[SAME][j] != 0;
        all.add(known, weight);
        if (!r.name[s.t + j]) relation.add(known, weight);
        if (!same) {
            left_weight += double(weight);
            left += double(r.of_key[LEFT][j]) * double(weight);
            code += double(r.of_key[LEFT_CODE][j]) * double(weight);
        }
        if (r.head[s.t + j]) {
            ++heads;
            head_sum += double(larger(known, (r.anywhere[s.t + j] & meant) ? 0.6f : 0.0f));
        }
        light += weight < 0.25f;
        light_same += weight < 0.25f && same;
    }
    using F = PairFeature;
    put(a, s, F::key_sense, all.value());
    put(a, s, F::key_relation_sense, relation.value());
    put(a, s, F::key_left, __builtin_log1p(left_weight));
    put(a, s, F::left_sense, (left + 0.1) / (left_weight + 0.1));
    put(a, s, F::left_code, (code + 0.1) / (left_weight + 0.1));
    put(a, s, F::head_sense, heads ? head_sum / double(heads) : 0.5);
    put(a, s, F::key_light, double(light_same + 1) / double(light + 1));
    return heads;
}

// The window's words.
int64_t query_senses(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    Mean relation, core;
    double left_weight = 0, left = 0, head_sum = 0;
    int64_t heads = 0, light = 0, light_same = 0;
    for (int64_t i = s.first; i < s.last; ++i) {
        const int64_t w = i - s.first;
        const float weight = a.query_place.weight[i], known = r.of_query[KNOWN][w];
        const bool same = r.query_flag[SAME][w] != 0, inside = i >= s.core_first && i < s.core_last;
        if (!a.query_place.name[i]) {
            relation.add(known, weight);
            if (inside) core.add(known, weight);
        }
        if (!same) {
            left_weight += double(weight);
            left += double(r.of_query[LEFT][w]) * double(weight);
        }
        if (a.query_place.head[i]) {
            ++heads;
            head_sum += double(r.of_query[ALIKE][w]);
        }
        light += inside && weight < 0.25f;
        light_same += inside && weight < 0.25f && same;
    }
    using F = PairFeature;
    put(a, s, F::query_relation_sense, relation.value());
    put(a, s, F::core_relation_sense, core.value());
    put(a, s, F::query_left, __builtin_log1p(left_weight));
    put(a, s, F::left_sense_back, (left + 0.1) / (left_weight + 0.1));
    put(a, s, F::head_sense_back, heads ? head_sum / double(heads) : 0.5);
    put(a, s, F::query_light, double(light_same + 1) / double(light + 1));
    return heads;
}

// The cosine of the mean vectors of some words of both sides; 0 without words. left_only: only the words without an equal.
double mean_alike(const PairFeatures &a, const Seen &s, bool left_only) {
    const PairRoom r = a.room;
    const int64_t D = a.sense_width;
    std::memset(r.sum, 0, size_t(D) * sizeof(int32_t));
    std::memset(r.query_sum, 0, size_t(D) * sizeof(int32_t));
    for (int64_t j = 0; j < s.m; ++j)
        if (r.key_flag[ASKS][j] && !(left_only && r.key_flag[SAME][j])) {
            const int16_t *sense = r.sense + a.which[s.t + j] * D;
            for (int64_t d = 0; d < D; ++d) r.sum[d] += sense[d];
        }
    for (int64_t i = s.first; i < s.last; ++i)
        if (r.query_flag[ASKS][i - s.first] && !(left_only && r.query_flag[SAME][i - s.first])) {
            const int16_t *sense = r.query_sense + i * D;
            for (int64_t d = 0; d < D; ++d) r.query_sum[d] += sense[d];
        }
    int64_t both = 0, one = 0, other = 0;
    for (int64_t d = 0; d < D; ++d) {
        both += int64_t(r.sum[d]) * r.query_sum[d];
        one += int64_t(r.sum[d]) * r.sum[d];
        other += int64_t(r.query_sum[d]) * r.query_sum[d];
    }
    const double length = __builtin_sqrt(double(one)) * __builtin_sqrt(double(other));
    return double(both) / (length > 1e-3 ? length : 1e-3);
}

// The words that say what is asked, all with the same weight.
void content_side(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    int64_t asked = 0, left = 0, left_back = 0;
    double soft = 0, soft_back = 0;
    for (int64_t j = 0; j < s.m; ++j) {
        const bool asks = r.content[s.t + j] && !r.name[s.t + j], alone = asks && !r.key_flag[SAME][j];
        r.key_flag[ASKS][j] = asks;
        asked += asks;
        left += alone;
        soft += alone ? double(1 - r.of_key[LEFT][j]) : 0;
    }
    for (int64_t i = s.first; i < s.last; ++i) {
        const int64_t w = i - s.first;
        const bool asks = a.query.content[i] && !a.query_place.name[i], alone = asks && !r.query_flag[SAME][w];
        r.query_flag[ASKS][w] = asks;
        left_back += alone;
        soft_back += alone ? double(1 - r.of_query[LEFT][w]) : 0;
    }
    using F = PairFeature;
    put(a, s, F::content_asked, asked < 4 ? asked : 4);
    put(a, s, F::content_left, left < 4 ? left : 4);
    put(a, s, F::content_left_back, left_back < 4 ? left_back : 4);
    put(a, s, F::content_soft, soft < 4 ? soft : 4);
    put(a, s, F::content_soft_back, soft_back < 4 ? soft_back : 4);
    put(a, s, F::mean_left, mean_alike(a, s, true));
    put(a, s, F::mean_relation, mean_alike(a, s, false));
}

// Different words between the same neighbours.
void swaps(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    float any = 0, both = 0, modifier = 0, head = 0;
    int64_t swapped = 0;
    for (int64_t j = 0; j < s.m; ++j) {
        if (r.key_flag[SAME][j]) continue;
        const float weight = r.weight[s.t + j];
        bool found = false;
        for (int64_t w = 0; w < s.last - s.first; ++w) {
            if (r.query_flag[SAME][w]) continue;
            const int64_t i = s.first + w;
            const bool before = w > 0 && j > 0 && r.same[(w - 1) * s.m + j - 1];
            const bool behind = i + 1 < s.last && j + 1 < s.m && r.same[(w + 1) * s.m + j + 1];
            if (!before && !behind) continue;
            const float least = smaller(a.query_place.weight[i], weight), lost = least * (1 - r.left_best[w * s.m + j]);
            any = larger(any, lost);
            if (before && behind) both = larger(both, lost);
            if (!a.query.content[i] || !r.content[s.t + j]) continue;
            const float other = larger(least, 0.2f);
            if (behind && i + 1 < a.words && a.query.content[i + 1]) modifier = larger(modifier, other);
            if (before && i > 0 && a.query.content[i - 1]) head = larger(head, other);
            found |= before && behind;
        }
        swapped += found;
    }
    using F = PairFeature;
    put(a, s, F::swap, any);
    put(a, s, F::swap_both, both);
    put(a, s, F::swap_modifier, modifier);
    put(a, s, F::swap_head, head);
    put(a, s, F::swap_count, swapped < 3 ? swapped : 3);
}

void sense_side(const PairFeatures &a, const Seen &s) {
    const float best = compare_senses(a, s);
    const int64_t key_heads = key_senses(a, s), query_heads = query_senses(a, s);
    put(a, s, PairFeature::heads, key_heads && query_heads ? best : 0.5f);
    content_side(a, s);
    swaps(a, s);
}
