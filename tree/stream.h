// One request being decoded: its tokens and text, what ends it, its account of time and passes.
// Runs no passes and knows no trees; decode.c drives it.
#ifndef GG_TREE_STREAM_H
#define GG_TREE_STREAM_H

#include "gorgon/decode.h"
#include "text.h"

struct gorgon_stream {
    gorgon_decoder *decoder;
    gorgon_stream *previous, *next; // all streams of the decoder, finished ones included
    size_t slot;                    // of the decoder, while running
    gorgon_sequence *sequence;      // NULL once finished
    gorgon_token *tokens;           // [n_prompt + limit] prompt, then what was generated
    size_t n_prompt, n_tokens;
    size_t limit;           // generated tokens that max_tokens and the context allow
    size_t context;         // positions of a sequence
    gorgon_request request; // pointers to the caller's arrays are cleared
    gg_text text;
    gorgon_stop stop;
    size_t passes;
    double prefill_s, decode_s, draft_s, verify_s;
    uint64_t logits_hash;
};

// token_bytes: the most valid text one token can make. Error: ARGUMENT, LIMIT, MEMORY.
gorgon_status gg_stream_create(const gorgon_request *request, size_t context, size_t n_vocab,
                               size_t token_bytes, gorgon_stream **out, gorgon_error *err);
void gg_stream_destroy(gorgon_stream *stream); // what gg_stream_create made

size_t gg_stream_generated(const gorgon_stream *stream);
// Tokens that may still be decided, and the deepest draft node that is then of use.
size_t gg_stream_remaining(const gorgon_stream *stream);
size_t gg_stream_max_depth(const gorgon_stream *stream);

// Takes decided tokens in order until one of them ends the stream; returns how many it took. They
// and the text that is now certain go to the request's on_tokens.
size_t gg_stream_take(gorgon_stream *stream, const gorgon_tokenizer *tokenizer,
                      const gorgon_token *tokens, size_t n);
// Ends the stream for a reason from outside; the text it has stays.
void gg_stream_end(gorgon_stream *stream, gorgon_stop stop);

#endif
