// Datastores: the file against its description, the search against a scan, every refusal.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "datastore_fixture.h"

#include "core/tokenizer.h"

enum { ORDER = GG_DATASTORE_ORDER, HEADER = 128, SEPARATOR = 0xffff };

// A file taken apart as docs/formats.md says.
typedef struct content {
    size_t n_text, n_places, n_texts;
    uint32_t *text, *places;
} content;

static content take_apart(const store_file *f)
{
    content c = {.n_text = store_number(f, 32, 8),
                 .n_places = store_number(f, 40, 8),
                 .n_texts = store_number(f, 48, 8)};
    const size_t at_places = HEADER + (2 * c.n_text + 3) / 4 * 4;
    cr_assert_eq(memcmp(f->bytes, "GGSTORE", 8), 0);
    cr_assert_eq(store_number(f, 8, 4), 1);
    cr_assert_eq(store_number(f, 28, 4), 2); // the embedded vocabulary is small
    cr_assert_eq(f->n, at_places + 4 * c.n_places);
    c.text = gg_alloc(c.n_text, sizeof *c.text);
    c.places = gg_alloc(c.n_places, sizeof *c.places);
    for (size_t i = 0; i < c.n_text; i++)
        c.text[i] = (uint32_t)store_number(f, HEADER + 2 * i, 2);
    for (size_t i = 0; i < c.n_places; i++)
        c.places[i] = (uint32_t)store_number(f, at_places + 4 * i, 4);
    return c;
}

static void content_free(content *c)
{
    gg_free(c->text);
    gg_free(c->places);
}

static int compare(const content *c, uint32_t a, uint32_t b)
{
    for (size_t k = 0; k < ORDER; k++) {
        const uint32_t x = c->text[a - k], y = c->text[b - k];
        if (x != y)
            return x < y ? -1 : 1;
        if (x == SEPARATOR)
            break;
    }
    return a < b ? -1 : a > b;
}

// Places are those of all tokens with a successor, each once, in order.
static void check_places(const content *c)
{
    size_t expected = 0;
    cr_assert_eq(c->text[0], SEPARATOR);
    cr_assert_eq(c->text[c->n_text - 1], SEPARATOR);
    for (size_t i = 0; i + 1 < c->n_text; i++)
        expected += c->text[i] != SEPARATOR && c->text[i + 1] != SEPARATOR;
    cr_assert_eq(c->n_places, expected);
    for (size_t i = 0; i < c->n_places; i++) {
        const uint32_t p = c->places[i];
        cr_assert_lt(p, c->n_text - 1);
        cr_assert(c->text[p] != SEPARATOR && c->text[p + 1] != SEPARATOR);
        cr_assert(i == 0 || compare(c, c->places[i - 1], p) < 0, "places %zu and %zu", i - 1, i);
    }
}

// Letters of a small alphabet, some runs of one letter.
static char *random_text(uint64_t seed, size_t n, size_t alphabet)
{
    char *text = gg_alloc(n + 1, 1);
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = gg_random_bits(seed, i / (seed % 3 + 1), 0, 0);
        text[i] = (char)(bits % 7 == 0 ? ' ' : 'a' + bits / 7 % alphabet);
    }
    return text;
}

Test(datastore, places_are_sorted_whatever_the_text_and_the_threads)
{
    gorgon_model *model = open_tiny();
    char *repeated = gg_alloc(30001, 1), *loop = gg_alloc(30001, 1);
    memset(repeated, 'z', 30000);
    for (size_t i = 0; i < 30000; i++)
        loop[i] = "to be or not "[i % 13];
    char *random[3] = {random_text(3, 20000, 20), random_text(4, 20000, 2),
                       random_text(5, 20000, 3)};
    const char *const texts[] = {repeated,  random[0], loop,      "A",
                                 random[1], "",        random[1], random[2]};
    for (size_t n = 1; n <= 8; n++) {
        store_file one = store_of(model, texts, n, 1), three = store_of(model, texts, n, 3);
        cr_assert_eq(one.n, three.n);
        cr_assert_eq(memcmp(one.bytes, three.bytes, one.n), 0);
        content c = take_apart(&one);
        check_places(&c);
        cr_assert_eq(c.n_texts, n - (n > 3) - (n > 5)); // of two tokens at least
        content_free(&c);
        gg_free(one.bytes);
        gg_free(three.bytes);
    }
    for (size_t i = 0; i < 3; i++)
        gg_free(random[i]);
    gg_free(repeated);
    gg_free(loop);
    gorgon_model_free(model);
}

Test(datastore, describes_what_was_added)
{
    const char *const texts[] = {"The bee is in the garden.", "The cat"};
    gorgon_model *model = open_tiny();
    gorgon_error err = {0};
    gorgon_datastore *store = NULL;
    scratch s = scratch_create();
    cr_assert_not(gorgon_datastore_probe(s.path));
    cr_assert_eq(store_write(model, s.path, texts, 2, 1, &err), GORGON_OK, "%s", err.message);
    cr_assert(gorgon_datastore_probe(s.path));
    cr_assert_not(gorgon_datastore_probe(TINY_MODEL));
    cr_assert_eq(gorgon_datastore_open(s.path, &store, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_datastore_check(store, model, &err), GORGON_OK);
    cr_assert_eq(gorgon_datastore_verify(store, &err), GORGON_OK);
    gorgon_datastore_info info;
    gorgon_datastore_describe(store, &info);
    uint64_t tokens = 0;
    for (size_t i = 0; i < 2; i++) {
        gorgon_token *ids = NULL;
        size_t n = 0;
        gorgon_tokenizer_encode(gorgon_model_tokenizer(model), texts[i], strlen(texts[i]), true,
                                &ids, &n, NULL);
        tokens += n;
        gorgon_free(ids);
    }
    cr_assert_str_eq(info.path, s.path);
    cr_assert_eq(info.texts, 2);
    cr_assert_eq(info.tokens, tokens);
    cr_assert_eq(info.places, tokens - 2);
    cr_assert_eq(info.vocabulary, gorgon_model_fingerprint(model).vocabulary);
    gorgon_datastore_free(store);
    gorgon_datastore_free(NULL);
    scratch_remove(&s);
    gorgon_model_free(model);
}

// The longest match of a context, by looking at every place.
static gg_datastore_match scan(const content *c, const gorgon_token *backwards, size_t n,
                               size_t length)
{
    gg_datastore_match m = {0};
    for (size_t i = 0; i < c->n_places; i++) {
        size_t k = 0;
        while (k < n && c->text[c->places[i] - k] == (uint32_t)backwards[k])
            k++;
        k = k < length ? k : length;
        if (k > m.length)
            m = (gg_datastore_match){k, i, i};
        if (k == m.length && k > 0)
            m.end = i + 1;
    }
    return m;
}

static void check_match(const gg_datastore_match *a, const gg_datastore_match *b)
{
    cr_assert_eq(a->length, b->length, "length %zu, expected %zu", a->length, b->length);
    if (a->length == 0)
        return;
    cr_assert_eq(a->first, b->first);
    cr_assert_eq(a->end, b->end);
}

static void check_context(const gorgon_datastore *store, const content *c,
                          const gorgon_token *backwards, size_t n)
{
    gg_datastore_match m = gg_datastore_longest(store, backwards, n), expected;
    expected = scan(c, backwards, n, n);
    check_match(&m, &expected);
    for (size_t i = m.first; i < m.end; i++)
        cr_assert_eq((uint32_t)gg_datastore_next(store, i), c->text[c->places[i] + 1]);
    while (m.length > 1) {
        const size_t shorter = m.length - 1 - (m.length > 4);
        m = gg_datastore_widen(store, backwards, m, shorter);
        expected = scan(c, backwards, n, shorter);
        check_match(&m, &expected);
    }
}

Test(datastore, search_finds_what_a_scan_finds)
{
    gorgon_model *model = open_tiny();
    const size_t n_vocab = gg_model_geometry(model)->n_vocab;
    for (size_t alphabet = 1; alphabet <= 9; alphabet += 2) {
        char *a = random_text(alphabet, 900, alphabet), *b = random_text(50, 300, alphabet);
        const char *const texts[] = {a, b, "ab"};
        store_file f = store_of(model, texts, 3, 1);
        gorgon_datastore *store = store_open(&f);
        content c = take_apart(&f);
        for (size_t i = 0; i < 400; i++) { // text that is there, some of it changed
            gorgon_token backwards[ORDER];
            size_t n = 0;
            const size_t at = gg_random_bits(9, i, alphabet, 0) % c.n_text;
            for (; n < ORDER && n <= at && c.text[at - n] != SEPARATOR; n++)
                backwards[n] = (gorgon_token)c.text[at - n];
            if (i % 2 && n > 0)
                backwards[i / 2 % n] = (gorgon_token)(gg_random_bits(8, i, 0, 0) % n_vocab);
            check_context(store, &c, backwards, i % 5 && n > 1 ? n / 2 : n);
        }
        content_free(&c);
        gorgon_datastore_free(store);
        gg_free(f.bytes);
        gg_free(a);
        gg_free(b);
    }
    gorgon_model_free(model);
}

static store_file small_store(const gorgon_model *model)
{
    static const char *const texts[] = {"one two three, one two four, one two three", "two three"};
    return store_of(model, texts, 2, 1);
}

static void check_refused(const store_file *f, size_t n, const char *about)
{
    gorgon_error err = {0};
    gorgon_datastore *store = NULL;
    uint8_t *exact = gg_alloc(n, 1); // of this size, for the sanitizers
    memcpy(exact, f->bytes, n);
    cr_assert_eq(gg_datastore_open_memory(exact, n, "store", &store, &err), GORGON_ERROR_FORMAT);
    cr_assert_null(store);
    cr_assert_not_null(strstr(err.message, about), "'%s' is not about '%s'", err.message, about);
    gg_free(exact);
}

Test(datastore, truncations_and_additions_are_refused)
{
    gorgon_model *model = open_tiny();
    store_file f = small_store(model);
    for (size_t n = 0; n < f.n; n++)
        check_refused(&f, n, "expected");
    f.bytes = gg_realloc(f.bytes, f.n, f.n + 4, 1);
    check_refused(&f, f.n + 4, "bytes for");
    gg_free(f.bytes);
    gorgon_model_free(model);
}

// Looks around in a store that may be damaged; bounds alone are promised.
static void roam(const gorgon_datastore *store)
{
    gorgon_datastore_info info;
    gorgon_datastore_describe(store, &info);
    for (size_t i = 0; i < info.places; i++) {
        gorgon_token backwards[ORDER];
        for (size_t k = 0; k < ORDER; k++)
            backwards[k] = gg_datastore_next(store, (i + 5 * k) % info.places);
        gg_datastore_match m = gg_datastore_longest(store, backwards, ORDER);
        cr_assert(m.first <= m.end && m.end <= info.places && m.length <= ORDER);
        if (m.length > 1)
            m = gg_datastore_widen(store, backwards, m, 1);
        cr_assert(m.first <= m.end && m.end <= info.places);
    }
    gorgon_datastore_verify(store, NULL);
}

Test(datastore, every_flipped_byte_of_the_header_is_refused)
{
    gorgon_model *model = open_tiny();
    store_file f = small_store(model);
    for (size_t i = 0; i < HEADER; i++) {
        for (int bit = 0; bit < 8; bit++) {
            f.bytes[i] ^= (uint8_t)(1 << bit);
            check_refused(&f, f.n, "expected");
            f.bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    gg_free(f.bytes);
    gorgon_model_free(model);
}

Test(datastore, a_forged_header_is_refused_or_harmless)
{
    gorgon_model *model = open_tiny();
    store_file f = small_store(model);
    size_t opened = 0;
    for (size_t i = 8; i < 124; i++) {
        for (int bit = 0; bit < 8; bit++) {
            gorgon_datastore *store = NULL;
            gorgon_error err = {0};
            f.bytes[i] ^= (uint8_t)(1 << bit);
            store_mend(&f);
            if (gg_datastore_open_memory(f.bytes, f.n, "store", &store, &err) == GORGON_OK) {
                roam(store);
                opened++;
            } else {
                cr_assert_gt(strlen(err.message), 0);
            }
            gorgon_datastore_free(store);
            f.bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    cr_assert_gt(opened, 64); // the vocabulary's hash and checksums may be any
    gg_free(f.bytes);
    gorgon_model_free(model);
}

Test(datastore, damage_behind_the_header_is_harmless_and_found_by_verify)
{
    gorgon_model *model = open_tiny();
    store_file f = small_store(model);
    for (size_t i = HEADER; i < f.n; i++) {
        gorgon_error err = {0};
        f.bytes[i] ^= 0x91;
        gorgon_datastore *store = store_open(&f);
        roam(store);
        cr_assert_eq(gorgon_datastore_verify(store, &err), GORGON_ERROR_FORMAT);
        cr_assert_not_null(strstr(err.message, "checksum of its"));
        gorgon_datastore_free(store);
        f.bytes[i] ^= 0x91;
    }
    memset(f.bytes + HEADER, 0xff, f.n - HEADER);
    gorgon_datastore *store = store_open(&f);
    roam(store);
    gorgon_datastore_free(store);
    gg_free(f.bytes);
    gorgon_model_free(model);
}

Test(datastore, another_tokenizer_is_refused)
{
    gorgon_model *model = open_tiny();
    store_file f = small_store(model);
    f.bytes[16] ^= 1;
    store_mend(&f);
    gorgon_datastore *store = store_open(&f);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_datastore_check(store, model, &err), GORGON_ERROR_MISMATCH);
    cr_assert_not_null(strstr(err.message, "another tokenizer"));
    gorgon_datastore_free(store);
    gg_free(f.bytes);
    gorgon_model_free(model);
}

Test(datastore, what_finds_no_room_is_left_out)
{
    gorgon_model *model = open_tiny();
    gorgon_error err = {0};
    gorgon_datastore_options options;
    gorgon_datastore_builder *builder = NULL;
    gorgon_datastore_info info;
    scratch s = scratch_create();
    gorgon_datastore_options_init(&options);
    options.max_tokens = 1;
    cr_assert_eq(gorgon_datastore_builder_create(model, &options, &builder, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "max_tokens"));
    options.max_tokens = 9;
    cr_assert_eq(gorgon_datastore_builder_create(model, &options, &builder, NULL), GORGON_OK);
    cr_assert_eq(gorgon_datastore_builder_write(builder, s.path, NULL), GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gorgon_datastore_builder_add(builder, "a\xff", 2, true, NULL),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gorgon_datastore_builder_room(builder), 9);
    for (size_t i = 0; i < 5; i++)
        cr_assert_eq(gorgon_datastore_builder_add(builder, "x y z", 5, true, NULL), GORGON_OK);
    cr_assert_lt(gorgon_datastore_builder_room(builder), 2);
    cr_assert_eq(gorgon_datastore_builder_write(builder, s.path, NULL), GORGON_OK);
    gorgon_datastore *store = NULL;
    cr_assert_eq(gorgon_datastore_open(s.path, &store, NULL), GORGON_OK);
    gorgon_datastore_describe(store, &info);
    cr_assert_eq(info.tokens, 9 - gorgon_datastore_builder_room(builder));
    gorgon_datastore_free(store);
    gorgon_datastore_builder_free(builder);
    gorgon_datastore_builder_free(NULL);
    scratch_remove(&s);
    gorgon_model_free(model);
}

static bool refuse(void *context, const gorgon_progress *progress)
{
    size_t *calls = context;
    cr_assert_leq(progress->done, progress->total);
    return ++*calls == 0;
}

Test(datastore, a_cancelled_or_failed_write_leaves_the_old_file)
{
    gorgon_model *model = open_tiny();
    gorgon_datastore_options options;
    gorgon_datastore_builder *builder = NULL;
    gorgon_error err = {0};
    size_t calls = 0;
    scratch s = scratch_create();
    gorgon_datastore_options_init(&options);
    options.threads = 1;
    options.progress = refuse;
    options.context = &calls;
    cr_assert_eq(store_write(model, s.path, (const char *const[]){"old text"}, 1, 1, &err),
                 GORGON_OK);
    store_file before = store_read(s.path);
    cr_assert_eq(gorgon_datastore_builder_create(model, &options, &builder, &err), GORGON_OK);
    char *text = random_text(2, 1000000, 20);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(gorgon_datastore_builder_add(builder, text, 1000000, true, &err), GORGON_OK);
    cr_assert_eq(gorgon_datastore_builder_write(builder, s.path, &err), GORGON_ERROR_CANCELLED);
    cr_assert_geq(calls, 1);
    store_file after = store_read(s.path);
    cr_assert(before.n == after.n && memcmp(before.bytes, after.bytes, before.n) == 0);
    gorgon_error why = {0};
    cr_assert_eq(store_write(model, s.directory, (const char *const[]){"new text"}, 1, 1, &why),
                 GORGON_ERROR_IO);
    gg_free(text);
    gg_free(before.bytes);
    gg_free(after.bytes);
    gorgon_datastore_builder_free(builder);
    scratch_remove(&s);
    gorgon_model_free(model);
}

Test(datastore, failing_allocations_are_reported)
{
    gorgon_model *model = open_tiny();
    const char *const texts[] = {"one two three, one two four"};
    scratch s = scratch_create();
    gorgon_status status = GORGON_ERROR_MEMORY;
    for (size_t fail = 1; status != GORGON_OK; fail++) {
        gorgon_error err = {0};
        gg_alloc_fail_at(fail);
        status = store_write(model, s.path, texts, 1, 2, &err);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && err.message[0]));
        cr_assert_eq(access(s.path, F_OK) == 0, status == GORGON_OK);
    }
    status = GORGON_ERROR_MEMORY;
    for (size_t fail = 1; status != GORGON_OK; fail++) {
        gorgon_datastore *store = NULL;
        gg_alloc_fail_at(fail);
        status = gorgon_datastore_open(s.path, &store, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !store));
        gorgon_datastore_free(store);
    }
    scratch_remove(&s);
    gorgon_model_free(model);
}
