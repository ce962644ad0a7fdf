// Medusa heads of FasterDecoding/Medusa: medusa_lm_head.pt or .safetensors of v0.1, the same in
// TGI's; "version 2", without output matrices; and inside the merged checkpoints of v1.0, below
// "medusa_head.".
#include "layout.h"

static const gg_layout_rule rules[] = {
    {"#.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"#.#.linear.bias", GG_LAYOUT_BIAS},
    {"#.#.weight", GG_LAYOUT_OUTPUT},
    {"#.#.bias", GG_LAYOUT_OUTPUT_BIAS},
    {0},
};

static const gg_layout_claim claims[] = {
    {"medusa_num_heads", GG_FACT_HEADS},
    {"medusa_num_layers", GG_FACT_BLOCKS},
    {"hidden_size", GG_FACT_WIDTH},
    {"vocab_size", GG_FACT_VOCABULARY},
    {"version", GG_FACT_SHARED_VERSION},
    {"base_model_name_or_path", GG_FACT_NAME},
    {0},
};

const gg_head_layout gg_layout_fasterdecoding = {
    .name = "FasterDecoding Medusa",
    .rules = rules,
    .claims = claims,
};
