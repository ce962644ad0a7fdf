// Medusa heads as vLLM's models/medusa.py loads them, and speculators' draft of the same with
// offsets for a token map. One output matrix serves all heads under "original_lm_head".
#include "layout.h"

static const gg_layout_rule rules[] = {
    {"blocks.#.layers.#.weight", GG_LAYOUT_WEIGHT},
    {"blocks.#.layers.#.bias", GG_LAYOUT_BIAS},
    {"lm_heads.#.weight", GG_LAYOUT_OUTPUT},
    {"lm_head.weight", GG_LAYOUT_OUTPUT},
    {"token_map", GG_LAYOUT_TOKEN_MAP},
    {"d2t", GG_LAYOUT_TOKEN_OFFSETS},
    {"t2d", GG_LAYOUT_UNUSED}, // which ids d2t reaches
    {0},
};

static const gg_layout_claim claims[] = {
    {"architectures", GG_FACT_NONE},
    {"model_type", GG_FACT_NONE},
    {"num_heads", GG_FACT_HEADS},
    {"num_hidden_layers", GG_FACT_BLOCKS},
    {"hidden_size", GG_FACT_WIDTH},
    {"medusa_hidden_size", GG_FACT_WIDTH},
    {"vocab_size", GG_FACT_VOCABULARY},
    {"medusa_vocab_size", GG_FACT_VOCABULARY},
    {"truncated_vocab_size", GG_FACT_DRAFT_VOCABULARY},
    {"medusa_fc_bias", GG_FACT_BIAS},
    {"original_lm_head", GG_FACT_ONE_OUTPUT},
    {"logit_scale", GG_FACT_SCALE},
    {0},
};

const gg_head_layout gg_layout_vllm = {
    .name = "vLLM Medusa",
    .rules = rules,
    .claims = claims,
    .one_output = true,
};
