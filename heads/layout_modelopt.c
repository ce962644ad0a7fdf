// Medusa heads of NVIDIA's ModelOpt: as TensorRT-LLM names them ("medusa_heads."), or beside an
// EAGLE draft ("parallel_draft_heads.", exported or as trained).
#include "layout.h"

static const gg_layout_rule rules[] = {
    {"parallel_draft_heads.#.medusa_layers.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"parallel_draft_heads.#.medusa_layers.#.linear.bias", GG_LAYOUT_BIAS},
    {"parallel_draft_heads.medusa_heads.#.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"parallel_draft_heads.medusa_heads.#.#.linear.bias", GG_LAYOUT_BIAS},
    {"parallel_draft_heads.#.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"parallel_draft_heads.#.#.linear.bias", GG_LAYOUT_BIAS},
    {"parallel_draft_heads.#.lm_head.weight", GG_LAYOUT_OUTPUT},
    {"parallel_draft_heads.lm_head.weight", GG_LAYOUT_OUTPUT},
    {"medusa_heads.#.medusa_layers.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"medusa_heads.#.medusa_layers.#.linear.bias", GG_LAYOUT_BIAS},
    {"medusa_heads.#.lm_head.weight", GG_LAYOUT_OUTPUT},
    {"d2t", GG_LAYOUT_TOKEN_OFFSETS},
    {"t2d", GG_LAYOUT_UNUSED},
    {0},
};

static const gg_layout_claim claims[] = {
    {"num_medusa_heads", GG_FACT_HEADS},
    {"medusa_num_heads", GG_FACT_HEADS},
    {"num_medusa_layers", GG_FACT_BLOCKS},
    {"medusa_num_layers", GG_FACT_BLOCKS},
    {"parallel_draft_heads_num_layers", GG_FACT_BLOCKS},
    {"hidden_size", GG_FACT_WIDTH},
    {"vocab_size", GG_FACT_VOCABULARY},
    {"draft_vocab_size", GG_FACT_DRAFT_VOCABULARY},
    {0},
};

const gg_head_layout gg_layout_modelopt = {
    .name = "ModelOpt Medusa",
    .rules = rules,
    .claims = claims,
    .one_output = true,
    .merged = true,
    .merged_note = "holds more than Medusa heads; if they were trained on what an EAGLE draft "
                   "beside them puts out, they will guess badly from the model's hidden state",
};
