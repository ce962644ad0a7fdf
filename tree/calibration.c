// Terms of edges, probabilities of siblings, and where weights come from: the packed form in heads
// files or the built-in priors. The fit is in fit.c, the online correction in online.c.
#include "tree/calibration.h"

#include <assert.h>
#include <string.h>

#include "core/file.h"
#include "core/math.h"
#include "numeric.h"
#include "priors.h"

enum {
    HEADER = 5, // floats: magic, version, proposers, GG_SHARED, GG_SAID
    NAME = 2,   // floats per name: its hash
    CLASSES = 2 * GG_CALIBRATION_DEPTHS,
    SCORE = 1, // place among the terms of a proposer
    PACKED_MAGIC = 0x67636c,
};
// Where nothing is known of two proposers: what a second one usually adds by agreeing.
static const float usual_agreement = 2.0f;

size_t gg_depth_class(size_t depth)
{
    assert(depth >= 1);
    return depth < GG_CALIBRATION_DEPTHS ? depth - 1 : GG_CALIBRATION_DEPTHS - 1;
}

size_t gg_said_place(size_t proposer)
{
    return GG_SHARED + proposer * GG_SAID;
}

size_t gg_agreed_place(size_t first, size_t second)
{
    assert(first < second);
    return gg_said_place(GG_MAX_PROPOSERS) + (second * (second - 1) / 2 + first) * GG_AGREED;
}

void gg_shared_terms(size_t depth, float parent_path, float noise, gg_term terms[GG_SHARED])
{
    const float values[GG_SHARED] = {
        1.0f,
        (float)gg_log((double)gg_num_clamp(parent_path, 1e-6f, 1.0f)),
        gg_num_clamp(noise, -8.0f, 23.0f),
        (float)(depth < 16 ? depth : 16) * 0.125f,
    };
    for (uint32_t i = 0; i < GG_SHARED; i++)
        terms[i] = (gg_term){i, values[i]};
}

size_t gg_said_terms(size_t proposer, const gg_edge *edge, gg_namers *namers, gg_term *terms)
{
    const uint32_t place = (uint32_t)gg_said_place(proposer), bit = UINT32_C(1) << proposer;
    const float score = gg_num_clamp(edge->score, -16.0f, 8.0f);
    size_t n = 0;
    if (namers->set & bit)
        return 0;
    terms[n++] = (gg_term){place, 1.0f};
    terms[n++] = (gg_term){place + SCORE, score};
    terms[n++] = (gg_term){place + 2, (float)gg_log(1.0 + edge->rank)};
    for (uint32_t i = 0; i < GG_EVIDENCE; i++)
        terms[n++] = (gg_term){place + 3 + i, gg_num_clamp(edge->evidence[i], -16.0f, 16.0f)};
    namers->set |= bit;
    namers->score[proposer] = score;
    namers->rank[proposer] = edge->rank;
    for (size_t other = 0; other < GG_MAX_PROPOSERS; other++) {
        if (other == proposer || !(namers->set & UINT32_C(1) << other))
            continue;
        size_t first = other < proposer ? other : proposer;
        size_t second = other < proposer ? proposer : other;
        uint32_t agreed = (uint32_t)gg_agreed_place(first, second);
        terms[n++] = (gg_term){agreed, 1.0f};
        terms[n++] = (gg_term){agreed + 1, namers->score[first]};
        terms[n++] = (gg_term){agreed + 2, namers->score[second]};
    }
    return n;
}

double gg_log_odds(const float weights[GG_WEIGHTS], const gg_term *terms, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)weights[terms[i].index] * (double)terms[i].value;
    return sum;
}

double gg_choose(double *siblings, size_t n)
{
    double most = 0.0; // the log-odds of "none" against itself
    for (size_t i = 0; i < n; i++)
        most = siblings[i] > most ? siblings[i] : most;
    double sum = gg_exp(-most);
    for (size_t i = 0; i < n; i++) {
        siblings[i] = gg_exp(siblings[i] - most);
        sum += siblings[i];
    }
    for (size_t i = 0; i < n; i++)
        siblings[i] /= sum;
    return most + gg_log(sum);
}

// ---- where weights come from

// The hash of a name, in two halves that are exact in a float.
static void hash_name(const char *name, float hash[NAME])
{
    uint64_t h = gg_hash(name, strlen(name), GG_CALIBRATION_VERSION);
    hash[0] = (float)(h & 0xffffff);
    hash[1] = (float)(h >> 24 & 0xffffff);
}

static size_t n_pairs(size_t n_names)
{
    return n_names * (n_names - 1) / 2;
}

// Floats of one class: shared, per proposer, per pair (0,1), (0,2), (1,2), (0,3), ..
static size_t class_floats(size_t n_names)
{
    return GG_SHARED + n_names * GG_SAID + n_pairs(n_names) * GG_AGREED;
}

size_t gg_calibration_floats(size_t n_names)
{
    return HEADER + n_names * NAME + CLASSES * class_floats(n_names);
}

void gg_calibration_pack(const char *const *names, size_t n_names,
                         const gg_calibration *calibration, float *out)
{
    const float header[HEADER] = {PACKED_MAGIC, GG_CALIBRATION_VERSION, (float)n_names, GG_SHARED,
                                  GG_SAID};
    memcpy(out, header, sizeof header);
    out += HEADER;
    for (size_t i = 0; i < n_names; i++)
        hash_name(names[i], out + i * NAME);
    out += n_names * NAME;
    for (size_t c = 0; c < CLASSES; c++) {
        const float *w = calibration->w[c / GG_CALIBRATION_DEPTHS][c % GG_CALIBRATION_DEPTHS];
        size_t head = gg_said_place(n_names), pairs = n_pairs(n_names) * GG_AGREED;
        memcpy(out, w, head * sizeof *w);
        memcpy(out + head, w + gg_said_place(GG_MAX_PROPOSERS), pairs * sizeof *w);
        out += class_floats(n_names);
    }
}

// Proposers whose weights are known, and these.
typedef struct known {
    size_t n;
    float hash[GG_MAX_PROPOSERS][NAME];
    const float *weights; // [CLASSES][class_floats(n)]
} known;

static bool read_packed(const float *packed, size_t n, known *k)
{
    if (!packed || n < HEADER || packed[0] != (float)PACKED_MAGIC ||
        packed[1] != (float)GG_CALIBRATION_VERSION || packed[3] != (float)GG_SHARED ||
        packed[4] != (float)GG_SAID)
        return false;
    if (!(packed[2] >= 1.0f && packed[2] <= (float)GG_MAX_PROPOSERS))
        return false;
    k->n = (size_t)packed[2];
    if (packed[2] != (float)k->n || n != gg_calibration_floats(k->n))
        return false;
    memcpy(k->hash, packed + HEADER, k->n * sizeof k->hash[0]);
    k->weights = packed + HEADER + k->n * NAME;
    for (const float *w = k->weights; w < packed + n; w++) {
        if (!(*w > -1e6f && *w < 1e6f))
            return false;
    }
    return true;
}

static void read_priors(known *k)
{
    k->n = GG_PRIORS;
    for (size_t i = 0; i < GG_PRIORS; i++)
        hash_name(gg_prior_names[i], k->hash[i]);
    k->weights = gg_prior_weights;
}

// The scores as log-odds, agreement as usual.
static void know_nothing(gg_calibration *out)
{
    for (size_t c = 0; c < CLASSES; c++) {
        float *w = out->w[c / GG_CALIBRATION_DEPTHS][c % GG_CALIBRATION_DEPTHS];
        memset(w, 0, sizeof out->w[0][0]);
        for (size_t i = 0; i < GG_MAX_PROPOSERS; i++)
            w[gg_said_place(i) + SCORE] = 1.0f;
        for (size_t i = 0; i < GG_PAIRS; i++)
            w[gg_said_place(GG_MAX_PROPOSERS) + i * GG_AGREED] = usual_agreement;
    }
}

// Places of the names in `k`; k->n for those that it does not know.
static void find_names(const known *k, const char *const *names, size_t n_names, size_t *place)
{
    for (size_t i = 0; i < n_names; i++) {
        float hash[NAME];
        hash_name(names[i], hash);
        for (place[i] = 0; place[i] < k->n; place[i]++) {
            if (memcmp(k->hash[place[i]], hash, sizeof hash) == 0)
                break;
        }
    }
}

// The terms of agreement between a and b, whichever comes first among the known.
static void take_pair(const float *pairs, size_t a, size_t b, float agreed[GG_AGREED])
{
    size_t first = a < b ? a : b, second = a < b ? b : a;
    const float *p = pairs + gg_agreed_place(first, second) - gg_agreed_place(0, 1);
    agreed[0] = p[0];
    agreed[1] = a < b ? p[1] : p[2];
    agreed[2] = a < b ? p[2] : p[1];
}

// Replaces the weights of those names and pairs that `k` knows. The others' own biases change
// against that of all edges: what they say alone means what it did.
static void take_known(const known *k, const char *const *names, size_t n_names,
                       gg_calibration *out)
{
    size_t from[GG_MAX_PROPOSERS];
    find_names(k, names, n_names, from);
    for (size_t c = 0; c < CLASSES; c++) {
        const float *source = k->weights + c * class_floats(k->n);
        float *w = out->w[c / GG_CALIBRATION_DEPTHS][c % GG_CALIBRATION_DEPTHS];
        const float bias = w[0];
        memcpy(w, source, GG_SHARED * sizeof *w);
        for (size_t i = 0; i < n_names; i++) {
            if (from[i] == k->n) {
                w[gg_said_place(i)] += bias - w[0];
                continue;
            }
            memcpy(w + gg_said_place(i), source + gg_said_place(from[i]), GG_SAID * sizeof *w);
            for (size_t j = 0; j < i; j++) {
                if (from[j] != k->n)
                    take_pair(source + gg_said_place(k->n), from[j], from[i],
                              w + gg_agreed_place(j, i));
            }
        }
    }
}

void gg_calibration_resolve(const float *packed, size_t n, const char *const *names, size_t n_names,
                            gg_calibration *out)
{
    known k;
    know_nothing(out);
    read_priors(&k);
    take_known(&k, names, n_names, out);
    if (read_packed(packed, n, &k))
        take_known(&k, names, n_names, out);
}
