// Features of each side's words; see verify.py.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

// How much of the stored prompt the query's window has.
void key_side(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    const float *together = r.of_key[TOGETHER], *spelled = r.of_key[SPELLED], *coded = r.of_key[CODED];
    float most = 0, missing = 0, weakest_name = 1;
    for (int64_t j = 0; j < s.m; ++j) most = larger(most, r.weight[s.t + j]);
    Mean cover, lexical, code, names, named, relation, relation_lexical, relation_code;
    Weakest weakest(most), weakest_lexical(most);
    double typos = 0;
    int64_t name_count = 0, numbers = 0, conflicts = 0;
    for (int64_t j = 0; j < s.m; ++j) {
        const float weight = r.weight[s.t + j];
        cover.add(together[j], weight);
        lexical.add(spelled[j], weight);
        code.add(coded[j], weight);
        weakest.add(together[j], weight);
        weakest_lexical.add(spelled[j], weight);
        missing = larger(missing, (1 - together[j]) * weight);
        if (spelled[j] >= 0.85f && spelled[j] < 1) typos += double(weight);
        numbers += (r.marks[s.t + j] & numeric) && spelled[j] < 1;
        conflicts += r.key_flag[APART][j] && together[j] < 0.5f;
        if (r.name[s.t + j]) {
            ++name_count;
            names.add(spelled[j], weight);
            named.add(r.of_key[NAMED][j], weight);
            weakest_name = smaller(weakest_name, spelled[j]);
        } else {
            relation.add(larger(together[j], 0.75f * r.of_key[MEANT][j]), weight);
            relation_lexical.add(spelled[j], weight);
            relation_code.add(coded[j], weight);
        }
    }
    using F = PairFeature;
    put(a, s, F::key_cover, cover.value());
    put(a, s, F::key_cover_lexical, lexical.value());
    put(a, s, F::key_cover_code, code.value());
    put(a, s, F::key_weakest, weakest.value);
    put(a, s, F::key_weakest_lexical, weakest_lexical.value);
    put(a, s, F::key_names, name_count ? names.value() : 1);
    put(a, s, F::key_names_weakest, weakest_name);
    put(a, s, F::key_names_named, name_count ? named.value() : 1);
    put(a, s, F::key_relation, relation.value());
    put(a, s, F::key_relation_lexical, relation_lexical.value());
    put(a, s, F::key_relation_code, relation_code.value());
    put(a, s, F::rare_missing, missing);
    put(a, s, F::typo_share, typos);
    put(a, s, F::names_present, name_count < 3 ? name_count : 3);
    put(a, s, F::contrast, conflicts != 0);
    put(a, s, F::numbers_missing, numbers < 2 ? numbers : 2);
    put(a, s, F::key_weight, __builtin_log1p(cover.weight));
}

// How much of the query's window the stored prompt has.
void query_side(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    float most = 0, added = 0, weakest_name = 1;
    for (int64_t i = s.first; i < s.last; ++i) most = larger(most, a.query_place.weight[i]);
    Mean cover, lexical, code, relation, relation_code;
    Weakest weakest(most);
    int64_t numbers = 0;
    for (int64_t i = s.first; i < s.last; ++i) {
        const float weight = a.query_place.weight[i], together = r.of_query[TOGETHER][i - s.first];
        const float spelled = r.of_query[SPELLED][i - s.first], coded = r.of_query[CODED][i - s.first];
        cover.add(together, weight);
        lexical.add(spelled, weight);
        code.add(coded, weight);
        weakest.add(together, weight);
        added = larger(added, (1 - together) * weight);
        numbers += a.query.number[i] && spelled < 1;
        if (a.query_place.name[i]) {
            weakest_name = smaller(weakest_name, spelled);
        } else {
            relation.add(together, weight);
            relation_code.add(coded, weight);
        }
    }
    using F = PairFeature;
    put(a, s, F::query_cover, cover.value());
    put(a, s, F::query_cover_lexical, lexical.value());
    put(a, s, F::query_cover_code, code.value());
    put(a, s, F::query_weakest, weakest.value);
    put(a, s, F::query_names_weakest, weakest_name);
    put(a, s, F::query_relation, relation.value());
    put(a, s, F::query_relation_code, relation_code.value());
    put(a, s, F::rare_added, added);
    put(a, s, F::numbers_added, numbers < 2 ? numbers : 2);
}

// The same for the core.
void core_side(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    float most = 0, weakest_name = 1;
    double all = 0;
    for (int64_t i = s.core_first; i < s.core_last; ++i) most = larger(most, a.query_place.weight[i]);
    for (int64_t i = s.first; i < s.last; ++i) all += double(a.query_place.weight[i]);
    Mean cover, relation;
    Weakest weakest(most);
    for (int64_t i = s.core_first; i < s.core_last; ++i) {
        const float weight = a.query_place.weight[i], together = r.of_query[TOGETHER][i - s.first];
        cover.add(together, weight);
        weakest.add(together, weight);
        if (a.query_place.name[i])
            weakest_name = smaller(weakest_name, r.of_query[SPELLED][i - s.first]);
        else
            relation.add(together, weight);
    }
    using F = PairFeature;
    put(a, s, F::core_cover, cover.value());
    put(a, s, F::core_weakest, weakest.value);
    put(a, s, F::core_names_weakest, weakest_name);
    put(a, s, F::core_relation, relation.value());
    put(a, s, F::core_share, cover.weight / (all > 1e-6 ? all : 1e-6));
}

// Where in the query the window is, and which kinds of answer it asks for.
void window_side(const PairFeatures &a, const Seen &s) {
    const PairRoom r = a.room;
    const int64_t T = a.stored_words, before = a.sentence[s.first], after = s.behind - 1;
    double inside = 0, later = 0, all = 0;
    for (int64_t i = 0; i < a.words; ++i) {
        const double weight = double(a.query_place.weight[i]);
        all += weight;
        inside += i >= s.first && i < s.last ? weight : 0;
        later += i >= s.last ? weight : 0;
    }
    int64_t asks = 0, runs = 0;
    for (int64_t n = s.behind; n < a.sentences; ++n) asks += a.asks[n];
    for (int64_t j = 0; j + 1 < s.m; ++j) {
        bool run = false;
        for (int64_t i = s.first; i + 1 < s.last; ++i) {
            const float *one = r.by_spelling + i * T + s.t + j;
            run |= one[0] >= 0.9f && one[T + 1] >= 0.9f;
        }
        runs += run;
    }
    int demands = 0;
    for (int64_t i = s.core_first; i < s.core_last; ++i) demands |= a.demands[a.sentence[i]];
    const double words = double(s.m), ratio = double(s.core_last - s.core_first) / (words > 1 ? words : 1);
    const double logarithm = __builtin_log(ratio);
    using F = PairFeature;
    put(a, s, F::behind_weight, __builtin_log1p(later));
    put(a, s, F::behind_asks, asks > 0);
    put(a, s, F::window_share, inside / (all > 1e-6 ? all : 1e-6));
    put(a, s, F::window_asks, (a.asks[before] | a.asks[after]) != 0);
    put(a, s, F::core_demands, demands);
    put(a, s, F::order, double(runs) / (words > 2 ? words - 1 : 1));
    put(a, s, F::words_ratio, logarithm < -2 ? -2 : logarithm > 2 ? 2 : logarithm);
    put(a, s, F::key_words, __builtin_log(words));
    // The stored prompt as a whole.
    const int answers = a.answer[before] | a.answer[after], wanted = a.stored_answer[a.rows[s.c]];
    put(a, s, F::key_asks, a.stored_asks[a.rows[s.c]]);
    put(a, s, F::key_types, __builtin_popcount(unsigned(wanted)));
    put(a, s, F::query_types, __builtin_popcount(unsigned(answers)));
    put(a, s, F::same_types, (answers & wanted) != 0);
    put(a, s, F::other_types, answers != 0 && wanted != 0 && (answers & wanted) == 0);
    put(a, s, F::same_text, a.stored_text[a.rows[s.c]] == a.text);
    put(a, s, F::key_offers, a.stored_offers[a.rows[s.c]]);
}

// The rules of judge.py, once all features are there. `denied`: the query only mentions the stored prompt's subject, or says
// more than a stored prompt that is a bare name.
void judge(const PairFeatures &a, const Seen &s) {
    using F = PairFeature;
    const float asked = got(a, s, F::content_asked);
    const bool missing = asked > 0 && got(a, s, F::content_soft) >= 0.5f * asked;
    const bool mentions = missing && got(a, s, F::window_asks) == 0 && got(a, s, F::query_cover) < 0.4f;
    const bool bare = asked == 0 && got(a, s, F::names_present) == 1 && got(a, s, F::key_types) == 0 && got(a, s, F::key_asks) == 0;
    const int demands = int(got(a, s, F::core_demands)), offers = int(got(a, s, F::key_offers));
    put(a, s, F::contradicted, demands != 0 && (demands & offers) == 0);
    put(a, s, F::denied, mentions || (bare && got(a, s, F::content_left_back) > 0));
}
