// The contract of the verification: the features of one query beside some stored prompts, from plain arrays. What they mean
// says memoir_fast/reading/matching (verify.py, likeness.py, pairs.py), the specification that this is tested against.
#pragma once
#include <cstdint>

namespace memoir {

// The features in the order of verify.FEATURES, then what the rules of judge.py need besides, and what they say.
#define MEMOIR_PAIR_FEATURES(X)                                                                                            \
    X(key_cover) X(key_cover_lexical) X(key_cover_code) X(key_weakest) X(key_weakest_lexical) X(key_names)                 \
    X(key_names_weakest) X(key_relation) X(key_relation_lexical) X(key_relation_code) X(query_cover)                       \
    X(query_cover_lexical) X(query_cover_code) X(query_weakest) X(query_names_weakest) X(query_relation)                   \
    X(query_relation_code) X(core_cover) X(core_weakest) X(core_names_weakest) X(core_relation) X(numbers_missing)         \
    X(numbers_added) X(contrast) X(same_types) X(other_types) X(same_text) X(order) X(words_ratio) X(behind_weight)        \
    X(behind_asks) X(window_share) X(window_asks) X(key_asks) X(rare_missing) X(rare_added) X(typo_share) X(key_words)     \
    X(names_present) X(key_weight) X(core_share) X(key_sense) X(key_relation_sense) X(query_relation_sense)                \
    X(core_relation_sense) X(key_left) X(query_left) X(left_sense) X(left_sense_back) X(left_code) X(swap) X(swap_both)    \
    X(key_light) X(query_light) X(head_sense) X(head_sense_back) X(heads) X(key_types) X(query_types) X(content_left)      \
    X(content_left_back) X(content_soft) X(content_soft_back) X(mean_left) X(mean_relation) X(swap_modifier) X(swap_head)  \
    X(swap_count) X(key_names_named)                                                                                       \
    X(content_asked) X(core_demands) X(key_offers) X(contradicted) X(denied)

enum class PairFeature : int {
#define MEMOIR_NAME(name) name,
    MEMOIR_PAIR_FEATURES(MEMOIR_NAME)
#undef MEMOIR_NAME
    count
};

// What a word is by itself: (words, ...) arrays.
struct PairWords {
    const int64_t *word;         // a hash; equal hashes are the same word
    const uint64_t *spelling;    // (words, spelling_width)
    const uint8_t *letters;      // (words, letters_width)
    const uint8_t *length;
    const uint64_t *meaning;     // (words, meaning_width)
    const uint64_t *contrast, *member;
    const uint8_t *number, *content;  // 0 or 1
    const int8_t *sense;         // (words, sense_width)
};

// What a word is in its prompt.
struct PairPlaces {
    const uint64_t *code;        // (words, code_width)
    const float *weight;
    const uint8_t *name, *head;  // 0 or 1
};

// Memory that a call works in. n query words, S sentences, and of the stored prompts T words, U of them distinct, and at
// most m in one prompt.
struct PairRoom {
    // distinct stored words; one line per part of a spelling, a meaning
    int64_t *word;                                        // (U)
    uint64_t *spelling, *meaning, *contrast, *member;     // (width, U), (width, U), (U), (U)
    float *ones;                                          // (U), how many bits a spelling has
    uint8_t *number;                                      // (U)
    int16_t *sense, *query_sense;                         // (U, sense_width), (n, sense_width)
    // query words beside distinct stored words
    float *spelled, *sensed;                              // (n, U); a line of `sensed` is written when it is first needed
    int32_t *kinds;                                       // (n, U), whether they share a meaning, or exclude each other
    uint8_t *has_sense;                                   // (n)
    // stored words
    uint64_t *code;                                       // (code_width, T)
    float *weight;                                        // (T)
    uint8_t *name, *head, *content;                       // (T)
    int32_t *marks;                                       // (T), whether it has a digit, and whether its code counts
    // query words beside stored words
    float *by_spelling, *by_code, *together;              // (n, T)
    int32_t *by_kind;                                     // (n, T), as `kinds`
    uint64_t *counts;                                     // (T), while codes are compared
    float *best;                                          // (S, T), the best of each sentence's words
    int32_t *anywhere;                                    // (T), the kinds of any query word
    // one stored prompt beside the query's window
    float *left_best;                                     // (n, m)
    uint8_t *same;                                        // (n, m)
    float *of_key[8], *of_query[8];                       // (m), (n)
    uint8_t *key_flag[3], *query_flag[3];                 // (m), (n)
    int32_t *sum, *query_sum;                             // (sense_width)
};

// out[f * line_stride + c] = feature f of the query and stored prompt c.
struct PairFeatures {
    int64_t spelling_width, letters_width, meaning_width, sense_width, code_width;
    float sense_length;          // of a word's vector
    // the query
    int64_t words, sentences;    // n and S, at least 1 each
    PairWords query;
    PairPlaces query_place;
    const uint8_t *query_coded;  // (n) whether a word's code counts
    const int32_t *sentence;     // (n), from 0 to S - 1, ascending by at most 1
    const uint8_t *asks;         // (S)
    const uint16_t *answer;      // (S)
    const uint8_t *demands;      // (S)
    int64_t text;
    // the stored prompts; `place` and `line` say where a word's lines lie in `stored_place` and `stored`
    int64_t count, stored_words, distinct;  // C, T, U
    PairWords stored;
    PairPlaces stored_place;
    const int64_t *first;        // (C + 1), where a prompt's words begin among the T
    const int64_t *place;        // (T)
    const int64_t *line;         // (U)
    const int32_t *which;        // (T), a word's number among the U
    const int64_t *rows;         // (C), where a prompt's values lie in the next four
    const uint16_t *stored_answer;
    const uint8_t *stored_asks, *stored_offers;
    const int64_t *stored_text;
    PairRoom room;
    float *out;
    int64_t line_stride;
};

}  // namespace memoir
