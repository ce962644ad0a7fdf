// Hydra heads of zankner/Hydra with hydra_head_arch "mlp": hydra_lm_head.pt. Head i sees the hidden
// state and the embeddings of the root and of i drafted tokens as they are; its first block is
// res_connection(x) + silu(linear(x)). Ungrounded ones see the hidden state alone.
#include "layout.h"

static const gg_layout_rule rules[] = {
    {"hydra_mlp.#.#.linear.weight", GG_LAYOUT_WEIGHT},
    {"hydra_mlp.#.#.linear.bias", GG_LAYOUT_BIAS},
    {"hydra_mlp.#.#.res_connection.weight", GG_LAYOUT_RESIDUAL},
    {"hydra_mlp.#.#.res_connection.bias", GG_LAYOUT_RESIDUAL_BIAS},
    {"hydra_lm_head.#.weight", GG_LAYOUT_OUTPUT},
    {"hydra_lm_head.#.bias", GG_LAYOUT_OUTPUT_BIAS},
    {"hydra_lm_head.#.1.weight", GG_LAYOUT_OUTPUT}, // behind a dropout
    {"hydra_lm_head.#.1.bias", GG_LAYOUT_OUTPUT_BIAS},
    {"input_embed_fn.weight", GG_LAYOUT_EMBEDDING},
    {0},
};

static const gg_layout_claim claims[] = {
    {"hydra_num_heads", GG_FACT_HEADS},
    {"hydra_num_layers", GG_FACT_BLOCKS},
    {"hydra_head_arch", GG_FACT_NONE},
    {"grounded_heads", GG_FACT_SEES_TOKENS},
    {"hidden_state_offset", GG_FACT_STATE},
    {"base_model_name_or_path", GG_FACT_NAME},
    {0},
};

const gg_head_layout gg_layout_hydra = {
    .name = "Hydra",
    .rules = rules,
    .claims = claims,
};
