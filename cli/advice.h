// Which proposers to use with a file of heads on this model and this machine: measured, and said in
// plain words.
#ifndef CLI_ADVICE_H
#define CLI_ADVICE_H

#include "cli.h"

// Decodes up to n_questions questions of the kind that synthesis with `seed` begins its texts with,
// plainly and with each list of proposers in turn; on slow machines fewer. The session has its
// model open. Errors: NULL after a message, or when interrupted. {"propose": "" where drafting does
// not pay, "speedup", "questions", "max_tokens", "same_output", "plain_tokens_per_s", "trials":
// [{"propose", "tokens_per_s", "speedup", "tokens_per_pass", "draft_share", "same_output"}, ..]}
json_t *cli_advise(const cli_session *session, const cli_common *common, const char *heads,
                   uint64_t seed, size_t n_questions);
void cli_print_advice(const json_t *advice, const char *model, const char *heads);

#endif
