// Text that repeats itself.
#include "gorgon/decode.h"

enum { LOOP_PERIOD = 64, LOOP_TOKENS = 48, LOOP_REPEATS = 3 };

size_t gorgon_loop_cut(const gorgon_token *ids, size_t n)
{
    for (size_t period = 1; period <= LOOP_PERIOD; period++) {
        size_t wanted = LOOP_REPEATS * period > LOOP_TOKENS ? LOOP_REPEATS * period : LOOP_TOKENS;
        size_t run = 0; // ids that equal the one a period before
        for (size_t i = period; i < n; i++) {
            run = ids[i] == ids[i - period] ? run + 1 : 0;
            if (run + period >= wanted)
                return i + 1 - (run + period) + 2 * period;
        }
    }
    return n;
}
