// What run, batch and bench share: prompts to ids, and a stream's result as JSON.
#ifndef CLI_DECODE_COMMON_H
#define CLI_DECODE_COMMON_H

#include "cli.h"

// Ids of a prompt: through the chat template as one user message, or as plain text (with BOS if
// the checkpoint says so). *ids is allocated with malloc. False after a message, which names the
// line if there are lines (else NULL).
bool cli_prompt_ids(const gorgon_model *model, const cli_lines *lines, const char *text,
                    size_t length, bool chat, gorgon_token **ids, size_t *n);
// Tokens that the decoding passes gave: the first one came with the prompt.
double cli_decoded_tokens(const gorgon_stream_result *result);
// The JSON that `run` and `batch` promise (DESIGN), without "id".
json_t *cli_result_json(const gorgon_stream *stream, const cli_session *session,
                        const cli_common *common);
// Fills a request from the flags; prompt and callbacks are the caller's.
gorgon_request cli_request(const cli_common *common, const gorgon_token *prompt, size_t n_prompt);

#endif
