/* Steps of coders, each by the fewest operations on vectors of 512 bits that are known for it; see
 * coding_steps.h. What is left out counts for nothing: loads and stores, tables, what is rare, what
 * waits for something else. */
#include "harness/perf/coding_steps.h"

#include <stdio.h>
#include <string.h>

enum step {
    EXTREME,
    MEETING,
    GRID,
    ARITHMETIC,
    COMPARISON,
    WORDS,
    CLAMP,
    CELLS,
    DOUBT,
    GATHERED,
    CODES,
    BYTES,
    BLOCKS,
    PAIRS,
    FOURS,
    MASKS,
    FIFTHS,
    LIMIT,
    HALVES,
    BFLOATS,
    SMALL_FLOATS,
    SQUARES,
    DOUBLES,
    SHARING,
    BUTTERFLIES,
    ANGLES,
    STEPS
};

/* Of a row of 128 values, eight vectors.
 *
 *     extreme      16 lanes of candidates less with each operation, for one extreme of each group
 *     meeting      lanes of four such vectors: a blend each, where they are read shifted from
 *                  memory
 *     grid         of four groups, 16 of which fill a vector: quotient, rounding to a half and
 *                  its limit (6 operations), the inverse's division and its checks (5)
 *     arithmetic   one operation of each value. A quotient is a multiply-add whose sum ends in a
 *                  whole number; for codes of 8 bits two, a little too small and too large, and
 *                  their difference, since words of 16 would leave too many in doubt
 *     comparison   of each vector with one
 *     words        two vectors of such sums become one of words: a shift and a blend
 *     clamp        what leaves 16 bits is cut off by conversions (8) and packs (4) in place of shifts
 *                  and blends (8), which spares the order of bytes (2)
 *     cells        words to codes of a table: a shift, a look-up of words, a sum
 *     doubt        where the product with an inverse may tell another code than the quotient: a
 *                  test of each vector, and one of their mask
 *     gathered     likewise of differences that one vector has gathered
 *     codes        words to codes: a shift
 *     bytes        two vectors of words become one of bytes, and words that were joined in turn
 *                  go apart
 *     blocks       code j beside code j + 16: two blends, bytes, their order
 *     pairs        codes beside their neighbours: multiply-adds of bytes, their upper halves, the
 *                  order
 *     fours        pairs beside their neighbours, likewise
 *     masks        16 of them to four by turns of two, each of which adds 1 to bytes
 *     fifths       bits to masks
 *     limit        a code beyond the last one
 *     halves       conversions to halves, two operations each, and a vector of two of them
 *     bfloats      half an ulp less the last bit that stays (3), a test for what is no number,
 *                  and the order of words that were joined in turn
 *     small floats the exponent alone, not below the least one, moved up, added (which rounds),
 *                  moved and added again; the largest number; the sign; three packs of four
 *                  vectors, their order
 *     squares      product and sum
 *     doubles      conversion and sum, of halves of vectors
 *     sharing      lanes of two groups in one vector, since four or eight partial sums are asked
 *                  for
 *     butterflies  six sums of each value, as 64 of them ask for, and its factor
 *     angles       of 64 pairs: squares (2), root and quotient by estimates (3 each), four
 *                  multiply-adds of a series */
static const struct {
    const char *name;
    struct kv_coding cost;
} steps[STEPS] = {[EXTREME] = {"extremes", {7, 0, 0, 0}},
                  [MEETING] = {"meeting of lanes", {3, 0, 0, 0}},
                  [GRID] = {"grids", {2, 0, 0, 0}},
                  [ARITHMETIC] = {"arithmetic", {8, 0, 0, 0}},
                  [COMPARISON] = {"comparisons", {0, 0, 8, 0}},
                  [WORDS] = {"words", {4, 4, 0, 0}},
                  [CELLS] = {"cells", {4, 4, 4, 0}},
                  [CLAMP] = {"clamp", {2, 0, 0, 0}},
                  [DOUBT] = {"doubt", {0, 1, 4, 0}},
                  [GATHERED] = {"doubt", {0, 1, 1, 0}},
                  [CODES] = {"codes", {0, 4, 0, 0}},
                  [BYTES] = {"bytes", {0, 0, 4, 0}},
                  [BLOCKS] = {"blocks", {2, 0, 3, 0}},
                  [PAIRS] = {"pairs", {0, 2, 2, 0}},
                  [FOURS] = {"fours", {0, 1, 1, 0}},
                  [MASKS] = {"masks", {4, 0, 12, 0}},
                  [FIFTHS] = {"fifths", {0, 0, 2, 0}},
                  [LIMIT] = {"limit", {1, 0, 0, 0}},
                  [HALVES] = {"halves", {8, 0, 12, 0}},
                  [BFLOATS] = {"bfloats", {24, 0, 8, 0}},
                  [SMALL_FLOATS] = {"small floats", {56, 8, 8, 0}},
                  [SQUARES] = {"squares", {16, 0, 0, 0}},
                  [DOUBLES] = {"doubles", {32, 0, 0, 0}},
                  [SHARING] = {"sharing", {8, 0, 0, 0}},
                  [BUTTERFLIES] = {"butterflies", {56, 0, 0, 0}},
                  [ANGLES] = {"angles", {48, 0, 0, 0}}};

/* How often a row takes each step, with the method's own settings otherwise. Not among them: qjl
 * and svd, which are products of matrices and counted as such.
 *
 * fp8:scale=token divides by the row's scale. kivi: groups of 32 rows, so that no lanes meet.
 * iq4_nl: a quotient, then weights, levels and the two sums that make d. kvquant and gear: which
 * values lie outside. gear: a quotient, what its code says (a conversion, a product, a sum), the
 * rest, and its products with four directions. sign: magnitudes. outliers: the largest, where it
 * lies, and the sum of the others. */
static const struct {
    const char *coder;
    unsigned char times[STEPS];
} coders[] = {
    {"turboquant:bits=4", {[SQUARES] = 1, [BUTTERFLIES] = 1, [ARITHMETIC] = 1, [WORDS] = 1,
                           [CELLS] = 1, [DOUBT] = 1, [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"f32", {0}},
    {"f16", {[HALVES] = 1}},
    {"bf16", {[BFLOATS] = 1, [WORDS] = 1}},
    {"fp8", {[SMALL_FLOATS] = 1}},
    {"fp8:scale=token", {[EXTREME] = 1, [ARITHMETIC] = 1, [SMALL_FLOATS] = 1}},
    {"nvfp4", {[EXTREME] = 1, [MEETING] = 2, [ARITHMETIC] = 1, [WORDS] = 1, [CELLS] = 1,
               [DOUBT] = 1, [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"mxfp4", {[EXTREME] = 1, [MEETING] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [CELLS] = 1,
               [DOUBT] = 1, [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"q8_0", {[EXTREME] = 1, [MEETING] = 1, [GRID] = 1, [ARITHMETIC] = 3, [WORDS] = 1,
              [GATHERED] = 1, [BYTES] = 1}},
    {"q5_1", {[EXTREME] = 2, [MEETING] = 2, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [DOUBT] = 1,
              [CODES] = 1, [BLOCKS] = 1, [FIFTHS] = 1}},
    {"q5_0", {[EXTREME] = 1, [MEETING] = 1, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [DOUBT] = 1,
              [CODES] = 1, [BLOCKS] = 1, [FIFTHS] = 1, [LIMIT] = 1}},
    {"q4_1", {[EXTREME] = 2, [MEETING] = 2, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [DOUBT] = 1,
              [CODES] = 1, [BLOCKS] = 1}},
    {"q4_0", {[EXTREME] = 1, [MEETING] = 1, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [DOUBT] = 1,
              [CODES] = 1, [BLOCKS] = 1, [LIMIT] = 1}},
    {"iq4_nl", {[EXTREME] = 1, [MEETING] = 1, [ARITHMETIC] = 8, [WORDS] = 1, [CELLS] = 1,
                [DOUBT] = 1, [CODES] = 1, [BLOCKS] = 1}},
    {"int:bits=8", {[EXTREME] = 2, [MEETING] = 1, [GRID] = 1, [ARITHMETIC] = 3, [WORDS] = 1,
                    [CLAMP] = 1, [GATHERED] = 1, [BYTES] = 1}},
    {"int:bits=4", {[EXTREME] = 2, [MEETING] = 1, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1,
                    [CLAMP] = 1, [DOUBT] = 1, [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"kivi", {[EXTREME] = 2, [GRID] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [CLAMP] = 1, [DOUBT] = 1,
              [CODES] = 1, [BYTES] = 1, [PAIRS] = 1, [FOURS] = 1}},
    {"kvquant:weights=none", {[COMPARISON] = 1, [ARITHMETIC] = 1, [WORDS] = 1, [CLAMP] = 1,
                              [CELLS] = 1, [DOUBT] = 1, [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"gear", {[COMPARISON] = 2, [ARITHMETIC] = 9, [WORDS] = 1, [DOUBT] = 1, [CODES] = 1,
              [BYTES] = 1, [PAIRS] = 1}},
    {"polar-han", {[BUTTERFLIES] = 1, [ANGLES] = 1}},
    {"polar-wu", {[ANGLES] = 1, [EXTREME] = 2, [ARITHMETIC] = 1, [WORDS] = 1, [DOUBT] = 1,
                  [CODES] = 1, [BYTES] = 1, [PAIRS] = 1}},
    {"ternary", {[SQUARES] = 1, [SHARING] = 1, [COMPARISON] = 2, [MASKS] = 1}},
    {"sign", {[ARITHMETIC] = 1, [DOUBLES] = 1, [SHARING] = 2, [COMPARISON] = 1}},
    {"outliers", {[EXTREME] = 1, [COMPARISON] = 1, [DOUBLES] = 1, [HALVES] = 1}}};

static void add_step(enum step step, unsigned times, struct kv_coding *coding,
                     char names[KV_CODING_NAMES])
{
    const struct kv_coding *cost = &steps[step].cost;
    const size_t said = strlen(names);
    coding->lanes += times * cost->lanes;
    coding->shifts += times * cost->shifts;
    coding->shuffles += times * cost->shuffles;
    snprintf(names + said, KV_CODING_NAMES - said, "%s%s", said ? ", " : "", steps[step].name);
    if (times > 1)
        snprintf(names + strlen(names), KV_CODING_NAMES - strlen(names), " x %u", times);
}

bool kv_coding_steps(const char *coder, struct kv_coding *coding, char names[KV_CODING_NAMES])
{
    size_t c = 0;
    while (c < sizeof coders / sizeof *coders && strcmp(coders[c].coder, coder) != 0) c++;
    if (c == sizeof coders / sizeof *coders) return false;
    *coding = (struct kv_coding){0};
    names[0] = 0;
    for (unsigned s = 0; s < STEPS; s++)
        if (coders[c].times[s]) add_step((enum step)s, coders[c].times[s], coding, names);
    return true;
}
