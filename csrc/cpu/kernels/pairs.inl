// The features of one query beside some stored prompts.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

#include "pairs_likeness.inl"
#include "pairs_window.inl"
#include "pairs_sides.inl"
#include "pairs_senses.inl"

void pair_features(const PairFeatures &a) {
    gather_distinct(a);
    gather_places(a);
    for (int64_t i = 0; i < a.words; ++i) {
        compare_distinct(a, i);
        compare_places(a, i);
    }
    sum_up_sentences(a);
    for (int64_t c = 0; c < a.count; ++c) {
        Seen s = {c, a.first[c], a.first[c + 1] - a.first[c], 0, 0, 0, 0, 0};
        find_window(a, s);
        best_of_words(a, s);
        key_side(a, s);
        query_side(a, s);
        core_side(a, s);
        sense_side(a, s);
        window_side(a, s);
        judge(a, s);
    }
}
