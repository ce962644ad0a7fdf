// Caps on everything that comes from outside. Readers compare with these before they allocate.
#ifndef GG_CORE_LIMITS_H
#define GG_CORE_LIMITS_H

#define GG_MAX_THREADS     256
#define GG_MAX_TENSORS     65536
#define GG_MAX_METADATA    65536
#define GG_MAX_PARTS       1024        // files of one checkpoint
#define GG_MAX_NAME        256         // bytes of a tensor or key name
#define GG_MAX_STRING      (16u << 20) // bytes of one metadata string
#define GG_MAX_DIMS        4
#define GG_MAX_RANK        6           // dimensions of a tensor of other software
#define GG_MAX_JSON        (16 << 20)  // bytes of a JSON file or header
#define GG_MAX_TOKENIZER   (128 << 20) // bytes of a tokenizer.json
#define GG_MAX_PICKLE      (16 << 20)  // bytes of a pickle
#define GG_MAX_NESTING     8
#define GG_MAX_VOCAB       (1u << 20)
#define GG_MAX_TOKEN_BYTES 1024       // bytes of one vocabulary entry
#define GG_MAX_REPLACEMENT 256        // bytes that a character map replaces, and their replacement
#define GG_MAX_MERGES      (1u << 22) // pairs of a BPE vocabulary
#define GG_MAX_LAYERS      512
#define GG_MAX_WIDTH       (1u << 17) // d_model, d_ff and the like
#define GG_MAX_HEADS       512        // attention heads
#define GG_MAX_CONTEXT     (1u << 20)
#define GG_MIN_DIVISOR     0.25f // of a rotary frequency
#define GG_MAX_DIVISOR     1e6f
#define GG_MAX_DRAFT_DEPTH 32 // nodes on a path of the tree
#define GG_MAX_TREE_NODES  512
#define GG_MAX_DRAFT_HEADS 16
#define GG_MAX_HEAD_BLOCKS 8
#define GG_MAX_HEAD_SETS   32
#define GG_MAX_CALIBRATION 65536                // floats of calibration per set of heads
#define GG_MAX_LINE        (8u << 20)           // bytes of one JSON line
#define GG_MAX_STORE       UINT32_C(0xfffffff0) // tokens of a datastore

#endif
