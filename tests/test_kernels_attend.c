// Attention at every level: bits equal to the scalar specification, equal for every way in which
// the same keys and values are delivered (pages, slots, tree-shaped chains), right in double.
#include "kernels_common.h"

enum {
    MAX_POSITIONS = 300,
};

// Keys and values by position, and one way of delivering them.
typedef struct fixture {
    guards g;
    size_t rows, group, head_dim, n, window;
    float *q;        // [rows][group][head_dim]
    uint16_t *k, *v; // [n][head_dim]
} fixture;

static void fixture_init_rows(fixture *f, size_t rows, size_t group, size_t head_dim, size_t n,
                              uint64_t seed)
{
    *f = (fixture){.rows = rows, .group = group, .head_dim = head_dim, .n = n};
    f->q = guard_alloc(&f->g, rows * group * head_dim * sizeof(float), true);
    f->k = guard_alloc(&f->g, n * head_dim * 2, true);
    f->v = guard_alloc(&f->g, n * head_dim * 2, true);
    for (size_t i = 0; i < rows * group * head_dim; i++)
        f->q[i] = random_float(&seed);
    for (size_t i = 0; i < n * head_dim; i++) {
        f->k[i] = gg_f32_to_f16(random_float(&seed) * 2.0f);
        f->v[i] = gg_f32_to_f16(random_float(&seed));
    }
}

static void fixture_init(fixture *f, size_t group, size_t head_dim, size_t n, uint64_t seed)
{
    fixture_init_rows(f, 1, group, head_dim, n, seed);
}

// Every 16-bit value that no kernel may read into a result: NaN and infinity.
static void poison(uint16_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = i % 2 ? 0x7e01 : 0xfc00;
}

static void put_k(const fixture *f, size_t position, uint16_t *tile, size_t lane)
{
    for (size_t d = 0; d < f->head_dim; d++)
        tile[d * GG_K_LANES + lane] = f->k[position * f->head_dim + d];
}

typedef struct delivery {
    guards g;
    gg_attend a;
    const uint16_t *page_k[8], *page_v[8];
    uint16_t *k[8], *v[8]; // the same
    uint32_t chain[MAX_POSITIONS];
} delivery;

// Takes away what no row sees because of the window: whole pages, keys and values, slot numbers.
static void hide(delivery *to, const fixture *f)
{
    const size_t hd = f->head_dim, n_committed = to->a.n_committed;
    size_t first = f->n;
    for (size_t r = 0; r < f->rows; r++) {
        const size_t begin = gg_attend_first(&to->a, r);
        first = begin < first ? begin : first;
    }
    for (size_t p = 0; p < first && p < n_committed; p++) {
        const size_t i = p % GG_PAGE;
        uint16_t *k = to->k[p / GG_PAGE] + i / 16 * 16 * hd + i % 16;
        poison(to->v[p / GG_PAGE] + i * hd, hd);
        for (size_t d = 0; d < hd; d++)
            k[d * GG_K_LANES] = 0x7e01;
    }
    for (size_t b = 0; (b + 1) * GG_PAGE <= first; b++)
        to->page_k[b] = to->page_v[b] = NULL;
    for (size_t i = 0; n_committed + i < first; i++)
        to->chain[i] = UINT32_MAX;
}

// Positions below n_committed in pages, the others in slots chosen by `spread`: 1 puts them side
// by side, 2 leaves gaps, 3 also jumps about as the path of a tree may. Of several rows each sees
// one position less than the one before, as long as it has one in the slots.
static void deliver(delivery *to, const fixture *f, size_t n_committed, size_t spread)
{
    *to = (delivery){0};
    const size_t hd = f->head_dim, n_chain = f->n - n_committed;
    for (size_t b = 0; b * GG_PAGE < n_committed; b++) {
        uint16_t *k = guard_alloc(&to->g, GG_PAGE * hd * 2, true);
        uint16_t *v = guard_alloc(&to->g, GG_PAGE * hd * 2, true);
        poison(k, GG_PAGE * hd);
        poison(v, GG_PAGE * hd);
        for (size_t i = 0; i < GG_PAGE && b * GG_PAGE + i < n_committed; i++) {
            put_k(f, b * GG_PAGE + i, k + i / 16 * 16 * hd, i % 16);
            memcpy(v + i * hd, f->v + (b * GG_PAGE + i) * hd, hd * 2);
        }
        to->page_k[b] = to->k[b] = k;
        to->page_v[b] = to->v[b] = v;
    }
    const size_t n_slots = n_chain * spread, stride = hd + 10, tiles = (n_slots + 15) / 16;
    uint16_t *slot_k = guard_alloc(&to->g, tiles * 16 * hd * 2, true);
    uint16_t *slot_v = guard_alloc(&to->g, ((n_slots ? n_slots - 1 : 0) * stride + hd) * 2, true);
    poison(slot_k, tiles * 16 * hd);
    for (size_t i = 0; i < n_chain; i++) {
        const size_t order = spread < 3 || n_chain % 7 == 0 ? i : i * 7 % n_chain;
        to->chain[i] = (uint32_t)(order * spread);
        put_k(f, n_committed + i, slot_k + to->chain[i] / 16 * 16 * hd, to->chain[i] % 16);
        memcpy(slot_v + to->chain[i] * stride, f->v + (n_committed + i) * hd, hd * 2);
    }
    const size_t scratch = gg_attend_scratch(f->group, hd);
    const size_t stride_q = f->group * hd;
    to->a = (gg_attend){.n_rows = f->rows,
                        .stride = stride_q,
                        .q = f->q,
                        .group = f->group,
                        .head_dim = hd,
                        .window = f->window,
                        .page_k = to->page_k,
                        .page_v = to->page_v,
                        .n_committed = n_committed,
                        .slot_k = slot_k,
                        .slot_v = slot_v,
                        .slot_v_stride = stride,
                        .out = guard_alloc(&to->g, f->rows * stride_q * sizeof(float), true),
                        .scratch = guard_alloc(&to->g, (scratch + 15) / 16 * 64, true)};
    for (size_t r = 0; r < f->rows; r++)
        to->a.n_chain[r] = n_chain > r ? n_chain - r : n_chain > 0;
    hide(to, f);
    for (size_t r = 0; r < f->rows; r++)
        to->a.chain[r] = guard_copy(&to->g, to->chain, to->a.n_chain[r] * 4, true);
}

// The scalar result when all but the last position are in pages.
static void reference(const fixture *f, float *out)
{
    delivery d;
    deliver(&d, f, f->n - 1, 1);
    gg_kernels_scalar.attend(&d.a);
    memcpy(out, d.a.out, f->group * f->head_dim * sizeof(float));
    guard_free(&d.g);
}

static void check_delivery(const fixture *f, size_t n_committed, size_t spread, const float *want)
{
    delivery d;
    deliver(&d, f, n_committed, spread);
    const size_t size = f->rows * f->group * f->head_dim;
    for (size_t l = 0; l <= GG_LEVEL_COUNT; l++) {
        const gg_kernels *k = l < GG_LEVEL_COUNT ? test_level(l) : &gg_kernels_scalar;
        if (!k)
            continue;
        memset(d.a.out, 0xff, size * sizeof(float));
        k->attend(&d.a);
        const size_t i = first_difference(want, d.a.out, size);
        cr_assert_eq(i, size,
                     "%s: rows %zu, group %zu, head %zu, %zu in pages of %zu, window %zu, spread "
                     "%zu: %zu is %a, expected %a",
                     k->name, f->rows, f->group, f->head_dim, n_committed, f->n, f->window, spread,
                     i, (double)d.a.out[i], (double)want[i]);
    }
    guard_free(&d.g);
}

static void check_window(size_t group, size_t head_dim, size_t n, size_t window)
{
    static float want[16 * 256];
    static const size_t splits[] = {0, 1, 15, 16, 37, 63, 64, 65, 100, 128, 191, 256};
    fixture f;
    fixture_init(&f, group, head_dim, n, group * 1000 + head_dim + n);
    f.window = window;
    reference(&f, want);
    for (size_t i = 0; i < sizeof splits / sizeof splits[0] && splits[i] < n; i++) {
        for (size_t spread = 1; spread <= 3; spread++)
            check_delivery(&f, splits[i], spread, want);
    }
    check_delivery(&f, n - 1, 1, want);
    guard_free(&f.g);
}

static void check_deliveries(size_t group, size_t head_dim, size_t n)
{
    check_window(group, head_dim, n, 0);
}

Test(kernels_attend, delivery_does_not_change_a_bit)
{
    static const size_t lengths[] = {1, 2, 16, 17, 63, 64, 65, 130, 193, 260};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        check_deliveries(3, 64, lengths[i]);
}

Test(kernels_attend, every_head_size_and_group)
{
    for (size_t head_dim = 2; head_dim <= 40; head_dim += 2)
        check_deliveries(2, head_dim, 70);
    static const size_t head_dims[] = {48, 80, 96, 112, 128, 192, 256};
    for (size_t i = 0; i < sizeof head_dims / sizeof head_dims[0]; i++)
        check_deliveries(3, head_dims[i], 70);
    for (size_t group = 1; group <= 16; group++)
        check_deliveries(group, 32, 81);
}

Test(kernels_attend, windows_hide_what_lies_before_them)
{
    static const size_t windows[] = {1, 2, 15, 16, 17, 40, 63, 64, 65, 100, 128, 192};
    static const size_t lengths[] = {1, 17, 64, 65, 81, 129, 193, 260};
    for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            check_window(3, 40, lengths[i], windows[w]);
    }
    check_window(1, 256, 200, 70);
    check_window(16, 16, 200, 70);
}

// What each row gives alone, at the scalar level.
static void reference_rows(const fixture *f, size_t n_committed, float *out)
{
    const size_t size = f->group * f->head_dim;
    for (size_t r = 0; r < f->rows; r++) {
        delivery d;
        fixture one = *f;
        one.rows = 1;
        one.q = f->q + r * size;
        const size_t n_chain = f->n - n_committed;
        one.n = n_committed + (n_chain > r ? n_chain - r : n_chain > 0);
        deliver(&d, &one, n_committed, 1);
        gg_kernels_scalar.attend(&d.a);
        memcpy(out + r * size, d.a.out, size * sizeof(float));
        guard_free(&d.g);
    }
}

static void check_rows_together(const size_t *windows, size_t n_windows)
{
    static float want[GG_ATTEND_QUERIES * 256];
    static const struct {
        size_t rows, group, head_dim;
    } shapes[] = {{2, 1, 64}, {8, 3, 64},  {7, 3, 40},  {8, 1, 256},
                  {5, 2, 6},  {4, 16, 48}, {3, 5, 128}, {8, 8, 16}};
    static const size_t lengths[][2] = {{9, 1},     {9, 0},     {64, 56},   {70, 62},   {72, 64},
                                        {130, 100}, {150, 128}, {200, 140}, {260, 259}, {260, 190}};
    enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };
    for (size_t i = 0; i < N_SHAPES * n_windows; i++) {
        for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++) {
            fixture f;
            const size_t s = i % N_SHAPES;
            fixture_init_rows(&f, shapes[s].rows, shapes[s].group, shapes[s].head_dim,
                              lengths[j][0], 100 * s + j);
            f.window = windows[i / N_SHAPES];
            reference_rows(&f, lengths[j][1], want);
            for (size_t spread = 1; spread <= 3; spread++)
                check_delivery(&f, lengths[j][1], spread, want);
            guard_free(&f.g);
        }
    }
}

Test(kernels_attend, rows_together_give_what_each_gives_alone)
{
    const size_t none = 0;
    check_rows_together(&none, 1);
}

// The rows' windows begin in different blocks, in pages and in slots.
Test(kernels_attend, rows_together_have_windows_of_their_own)
{
    static const size_t windows[] = {1, 3, 7, 16, 60, 64, 67, 70, 128};
    check_rows_together(windows, sizeof windows / sizeof windows[0]);
}

// Softmax in double.
static void exact_attention(const fixture *f, size_t h, double *out)
{
    double score[MAX_POSITIONS], max = -INFINITY, sum = 0;
    const size_t first = f->window > 0 && f->n > f->window ? f->n - f->window : 0;
    for (size_t p = first; p < f->n; p++) {
        score[p] = 0;
        for (size_t d = 0; d < f->head_dim; d++)
            score[p] += (double)f->q[h * f->head_dim + d] *
                        (double)gg_f16_to_f32(f->k[p * f->head_dim + d]);
        max = score[p] > max ? score[p] : max;
    }
    memset(out, 0, f->head_dim * sizeof *out);
    for (size_t p = first; p < f->n; p++) {
        const double weight = exp(score[p] - max);
        sum += weight;
        for (size_t d = 0; d < f->head_dim; d++)
            out[d] += weight * (double)gg_f16_to_f32(f->v[p * f->head_dim + d]);
    }
    for (size_t d = 0; d < f->head_dim; d++)
        out[d] /= sum;
}

Test(kernels_attend, the_specification_is_softmax_attention)
{
    static float got[4 * 64];
    static double want[64];
    static const size_t lengths[] = {1, 5, 64, 65, 300};
    static const size_t windows[] = {0, 30, 64, 100};
    for (size_t i = 0; i < 4 * sizeof lengths / sizeof lengths[0]; i++) {
        fixture f;
        fixture_init(&f, 4, 64, lengths[i / 4], i);
        f.window = windows[i % 4];
        reference(&f, got);
        for (size_t h = 0; h < 4; h++) {
            exact_attention(&f, h, want);
            for (size_t d = 0; d < 64; d++)
                cr_assert_float_eq((double)got[h * 64 + d], want[d], 3e-6);
        }
        guard_free(&f.g);
    }
}

// Scores hundreds apart: later blocks dwarf earlier ones and the other way round.
Test(kernels_attend, distant_scores_merge_without_nan)
{
    static float want[2 * 16];
    for (size_t peak = 0; peak < 200; peak += 37) {
        fixture f;
        fixture_init(&f, 2, 16, 200, peak);
        for (size_t i = 0; i < 2 * 16; i++)
            f.q[i] *= 60.0f;
        for (size_t d = 0; d < 16; d++)
            f.k[peak * 16 + d] = gg_f32_to_f16(f.q[d]);
        reference(&f, want);
        for (size_t d = 0; d < 16; d++) // head 0 sees the peak only
            cr_assert_eq(want[d], gg_f16_to_f32(f.v[peak * 16 + d]));
        for (size_t split = 0; split < 200; split += 50)
            check_delivery(&f, split, 3, want);
        guard_free(&f.g);
    }
}
