// Tensors in safetensors, torch archives and checkpoints of several files: what they hold, every
// refusal, cut files, failing allocations.
#define _XOPEN_SOURCE 700 // mkdtemp
#include "torch_fixture.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"

#define HEADS  GG_TEST_DATA "/heads"
#define CORPUS GG_SOURCE_DIR "/tests/corpus"

static gg_tensor_file *open_good(const char *path)
{
    gg_tensor_file *file = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tensor_file_open(path, &file, &err), GORGON_OK, "%s", err.message);
    return file;
}

static const uint8_t *data_of(gg_tensor_file *file, const gg_named_tensor *t)
{
    const uint8_t *data = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_tensor_file_data(file, t, &data, &err), GORGON_OK, "%s", err.message);
    return data;
}

// The message says what is wrong.
static void check_refused(const void *data, size_t size, const char *part)
{
    gg_tensor_file *file = NULL;
    gorgon_error err = {0};
    cr_assert_neq(gg_tensor_file_open_memory(data, size, "input", &file, &err), GORGON_OK,
                  "expected a refusal with '%s'", part);
    cr_assert_null(file);
    cr_assert(strstr(err.message, "input") && strstr(err.message, part), "'%s' lacks '%s'",
              err.message, part);
}

Test(tensor_file, archive_and_safetensors_hold_the_same)
{
    gg_tensor_file *a = open_good(HEADS "/medusa_3x1/medusa_lm_head.pt");
    gg_tensor_file *b = open_good(HEADS "/medusa_3x1/medusa_lm_head.safetensors");
    cr_assert_str_eq(gg_tensor_file_format(a), "torch archive");
    cr_assert_str_eq(gg_tensor_file_format(b), "safetensors");
    cr_assert(gg_tensor_file_count(a) == 9 && gg_tensor_file_count(b) == 9);
    for (size_t i = 0; i < 9; i++) {
        const gg_named_tensor *x = gg_tensor_file_at(a, i);
        const gg_named_tensor *y = gg_tensor_file_find(b, x->name);
        cr_assert_not_null(y);
        cr_assert(x->element == GG_ELEMENT_BF16 && y->element == x->element);
        cr_assert(x->n_dims == y->n_dims && x->bytes == y->bytes);
        cr_assert_eq(memcmp(x->dims, y->dims, sizeof x->dims), 0);
        cr_assert_eq(memcmp(data_of(a, x), data_of(b, y), x->bytes), 0, "%s", x->name);
    }
    cr_assert_null(gg_tensor_file_find(b, "0.0.linear"));
    gg_tensor_file_close(a);
    gg_tensor_file_close(b);
}

Test(tensor_file, shared_storage)
{
    gg_tensor_file *f = open_good(HEADS "/medusa_5x2_shared_storage/medusa_lm_head.pt");
    const gg_named_tensor *a = gg_tensor_file_find(f, "3.0.linear.weight");
    const gg_named_tensor *b = gg_tensor_file_find(f, "3.1.linear.weight");
    cr_assert(a && b);
    cr_assert_eq(data_of(f, a), data_of(f, b)); // no copies
    gg_tensor_file_close(f);
}

static const float values[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static void make_archive(bytes *to, const bytes *pickle, bool deflated)
{
    const zip_entry entries[] = {{"m/data.pkl", pickle->data, pickle->n, deflated},
                                 {"m/byteorder", "little", 6, false},
                                 {"m/data/0", values, sizeof values, deflated}};
    zip(to, entries, 3);
}

static bytes pickle_bytes, archive;

Test(tensor_file, other_orders_are_gathered)
{
    static const pickled tensors[] = {
        {"turned", "FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 4}},
        {"every_other", "FloatStorage", "0", 12, 1, 1, {6}, {2}},
        {"part", "FloatStorage", "0", 12, 5, 2, {2, 3}, {3, 1}},
        {"one", "FloatStorage", "0", 12, 11, 0, {0}, {0}},
        {"none", "FloatStorage", "0", 12, 0, 2, {3, 0}, {1, 1}},
    };
    static const float expected[][12] = {
        {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}, {1, 3, 5, 7, 9, 11}, {5, 6, 7, 8, 9, 10}, {11}};
    static const size_t sizes[] = {12, 6, 6, 1, 0};
    for (int deflated = 0; deflated < 2; deflated++) {
        gg_tensor_file *f = NULL;
        gorgon_error err = {0};
        pickle_begin(&pickle_bytes);
        for (size_t i = 0; i < 5; i++)
            pickle_item(&pickle_bytes, &tensors[i]);
        put_text(&pickle_bytes, "u.");
        make_archive(&archive, &pickle_bytes, deflated);
        cr_assert_eq(gg_tensor_file_open_memory(archive.data, archive.n, "input", &f, &err),
                     GORGON_OK, "%s", err.message);
        for (size_t i = 0; i < 5; i++) {
            const gg_named_tensor *t = gg_tensor_file_at(f, i);
            cr_assert_str_eq(t->name, tensors[i].name);
            const uint8_t *data = data_of(f, t);
            if (i < 4)
                cr_assert_eq(memcmp(data, expected[i], t->bytes), 0, "%s", t->name);
            cr_assert_eq(t->n, sizes[i]);
            cr_assert_eq(data_of(f, t), data); // copied once at most
        }
        gg_tensor_file_close(f);
    }
}

// In both headers of every entry of these bytes.
static void set_checksum(const void *data, size_t n, uint32_t checksum)
{
    const uint32_t right = (uint32_t)crc32(0, data, (uInt)n);
    for (size_t i = 0; i + sizeof right <= archive.n; i++) {
        if (memcmp(archive.data + i, &right, sizeof right) == 0)
            memcpy(archive.data + i, &checksum, sizeof checksum);
    }
}

// A checksum that is there is compared, the pickle's at once, a storage's when it is asked for;
// torch writes 0 where it computed none.
Test(tensor_file, checksums)
{
    static const pickled tensors[] = {{"a", "FloatStorage", "0", 12, 0, 1, {6}, {1}},
                                      {"b", "FloatStorage", "0", 12, 6, 1, {6}, {1}}};
    pickle_begin(&pickle_bytes);
    pickle_item(&pickle_bytes, &tensors[0]);
    pickle_item(&pickle_bytes, &tensors[1]);
    put_text(&pickle_bytes, "u.");
    for (int i = 0; i < 4; i++) {
        const bool deflated = i & 1, spoiled = i & 2;
        gg_tensor_file *f = NULL;
        gorgon_error err = {0};
        make_archive(&archive, &pickle_bytes, deflated);
        set_checksum(pickle_bytes.data, pickle_bytes.n, 0);
        set_checksum(values, sizeof values, spoiled ? 12345 : 0);
        cr_assert_eq(gg_tensor_file_open_memory(archive.data, archive.n, "input", &f, &err),
                     GORGON_OK, "%s", err.message);
        const uint8_t *data = NULL;
        const gorgon_status status =
            gg_tensor_file_data(f, gg_tensor_file_find(f, "a"), &data, &err);
        cr_assert_eq(status, spoiled ? GORGON_ERROR_FORMAT : GORGON_OK, "%s", err.message);
        if (spoiled) {
            cr_assert(strstr(err.message, "'m/data/0'") && strstr(err.message, "CRC-32 00003039"),
                      "%s", err.message);
        } else { // unpacked once for both
            cr_assert_eq(memcmp(data, values, 24), 0);
            cr_assert_eq(data_of(f, gg_tensor_file_find(f, "b")), data + 24);
        }
        gg_tensor_file_close(f);
        make_archive(&archive, &pickle_bytes, deflated);
        set_checksum(pickle_bytes.data, pickle_bytes.n, 12345);
        check_refused(archive.data, archive.n, "'m/data.pkl' at byte 0: expected CRC-32 00003039");
    }
}

// What state_dict() and trainers put around tensors: attributes, nested dictionaries, parameters,
// numbers and texts, protocol 4.
Test(tensor_file, dictionaries_with_other_things)
{
    static const pickled t = {"w", "FloatStorage", "0", 12, 0, 1, {12}, {1}};
    gg_tensor_file *f = NULL;
    gorgon_error err = {0};
    bytes *b = &pickle_bytes;
    b->n = 0;
    put_text(b, "\x80\x04\x95");
    put_number(b, 1000, 8);
    put_text(b, "}\x94(\x8c\x05"
                "epoch\x8a\x01\x03\x8c\x04"
                "loss");
    put_text(b, "G");
    put_number(b, 0, 8);
    put_text(b, "\x8c\x05"
                "notes](\x88N\x8c\x01xe\x8c\x06"
                "tensor");
    put_text(b, "\x8c\x0ctorch._utils\x8c\x12_rebuild_parameter\x93(");
    pickle_tensor(b, &t);
    put_text(b, "\x88"
                "ccollections\nOrderedDict\n)RtR\x8c\x05"
                "model"
                "ccollections\nOrderedDict\n)R(");
    pickle_item(b, &t);
    put_text(b, "u}\x8c\x09_metadata}sbu.");
    make_archive(&archive, b, false);
    cr_assert_eq(gg_tensor_file_open_memory(archive.data, archive.n, "input", &f, &err), GORGON_OK,
                 "%s", err.message);
    cr_assert_eq(gg_tensor_file_count(f), 2);
    cr_assert(gg_tensor_file_find(f, "tensor") && gg_tensor_file_find(f, "model.w"));
    gg_tensor_file_close(f);
}

typedef struct hostile {
    const char *file, *part;
} hostile;

static const hostile refused[] = {
    {"torch/os_system.pt", "'os.system'"},
    {"torch/builtins_eval.pt", "eval'"},
    {"torch/truncated_zip.pt", "cut off"},
    {"torch/wrong_dtype.pt", "'torch.FooStorage'"},
    {"torch/short_storage.pt", "1024 elements of 2 bytes, got 1024"},
    {"torch/duplicate_keys.pt", "'0.0.linear.bias': expected each name once"},
    {"torch/overlapping_strides.pt", "overlapping"},
    {"torch/duplicate_zip_entry.pt", "'archive/data/0'"},
    {"torch/zip_bomb.pt", "50331648"},
    {"torch/path_traversal.pt", "'../../evil'"},
    {"safetensors/header_past_end.safetensors", "got 1000000000"},
    {"safetensors/many_brackets.safetensors", "nested"},
    {"safetensors/missing_dtype.safetensors", "\"dtype\""},
    {"safetensors/missing_offsets.safetensors", "\"data_offsets\""},
    {"safetensors/overlap.safetensors", "expected its data at"},
    {"safetensors/trailing_bytes.safetensors", "cover"},
    {"safetensors/invalid_utf8.safetensors", "not JSON"},
    {"safetensors/duplicate_key.safetensors", "duplicate"},
};

Test(tensor_file, hostile_files_are_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        gg_tensor_file *f = NULL;
        gorgon_error err = {0};
        char path[512];
        snprintf(path, sizeof path, CORPUS "/%s", refused[i].file);
        cr_assert_neq(gg_tensor_file_open(path, &f, &err), GORGON_OK, "%s", path);
        cr_assert(strstr(err.message, strrchr(path, '/') + 1) &&
                      strstr(err.message, refused[i].part),
                  "'%s' lacks '%s'", err.message, refused[i].part);
    }
    gg_tensor_file_close(open_good(CORPUS "/torch/control_valid.pt"));
    gg_tensor_file_close(open_good(CORPUS "/torch/control_cuda_location.pt"));
    gg_tensor_file_close(open_good(CORPUS "/safetensors/control_valid.safetensors"));
}

// Two million brackets, and a header of tensors that would fill the memory, within 64 MB.
Test(tensor_file, refusing_takes_little_memory)
{
    enum { N = 15 << 20 };
    uint8_t *data = gg_alloc(N + 8, 1);
    struct rusage before, after;
    for (size_t i = 0; i < 4; i++)
        data[i] = (uint8_t)((uint32_t)N >> (8 * i));
    memset(data + 8, '[', N);
    getrusage(RUSAGE_SELF, &before);
    check_refused(data, N + 8, "nested");
    data[8] = '{';
    for (size_t i = 9; i + 16 <= N; i += 16) {
        char item[20];
        snprintf(item, sizeof item, "\"%09zu\":[],,", i);
        memcpy(data + i, item, 16);
        data[i + 14] = ' ';
        data[i + 15] = ',';
    }
    check_refused(data, N + 8, "memory");
    memset(data + 10, 'x', N - 2); // one text
    check_refused(data, N + 8, "memory");
    getrusage(RUSAGE_SELF, &after);
    cr_assert(after.ru_maxrss - before.ru_maxrss < 64 << 10, "%ld kB",
              after.ru_maxrss - before.ru_maxrss);
    gg_free(data);
}

Test(tensor_file, pickles_are_refused_by_name)
{
    static const struct {
        const char *pickle, *part;
        size_t n; // 0: a text
    } cases[] = {
        {"\x80\x02(S'id'\n.", "opcode STRING", 0},
        {"\x80\x02"
         "cos\nsystem\nX\x02\0\0\0id\x85R.",
         "'os.system'", 22},
        {"\x80\x02(X\x02\0\0\0idios\nsystem\n.", "opcode INST", 23},
        {"\x80\x02"
         "ctorch.storage\n_load_from_bytes\n.",
         "'torch.storage._load_from_bytes'", 0},
        {"\x80\x02}\x81.", "opcode NEWOBJ", 0},
        {"\x80\x02\xff", "byte 0xff", 0},
        {"\x80\x01}.", "protocol", 0},
        {"\x80\x02N.", "dictionary of tensors", 0},
        {"\x80\x02}}.", "dictionary of tensors", 0},
        {"\x80\x02}", "opcode", 0},
        {"\x80\x02h\x05.", "place 5 of 0", 0},
        {"\x80\x02Nr\xff\xff\xff\xff.", "remember", 0},
        {"\x80\x02(q\x01.", "remember", 0},
        {"\x80\x02}q\x05h\x03.", "place 3 of 6", 0},
        {"\x80\x02u.", "mark", 0},
        {"\x80\x02(u.", "dictionary and pairs", 0},
        {"\x80\x02\x86.", "2 values", 0},
        {"\x80\x02NNN\x87"
         "b.",
         "BUILD", 0},
        {"\x80\x02"
         "ctorch\nFloatStorage\n)R.",
         "no call of 'torch.FloatStorage'", 0},
        {"\x80\x02)Q.", "persistent id", 0},
        {"\x80\x02"
         "cX",
         "global", 0},
        {"\x80\x02\x8a\x09"
         "123456789.",
         "8 bytes", 0},
        {"\x80\x02"
         "ccollections\nOrderedDict\nN\x85R.",
         "without arguments", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pickle_bytes.n = 0;
        put(&pickle_bytes, cases[i].pickle, cases[i].n ? cases[i].n : strlen(cases[i].pickle));
        make_archive(&archive, &pickle_bytes, false);
        check_refused(archive.data, archive.n, cases[i].part);
    }
}

Test(tensor_file, archives_that_are_none)
{
    static const zip_entry good = {"m/data/0", values, sizeof values, false};
    static const struct {
        zip_entry entry;
        const char *part;
    } cases[] = {
        {{"m/byteorder", "big", 3, false}, "byteorder"},
        {{"n/data.pkl", "}.", 2, false}, "several"},
        {{"/m/x", "", 0, false}, "relative name"},
        {{"m/../x", "", 0, false}, "'..'"},
        {{"m\\x", "", 0, false}, "relative name"},
        {{"m/\xff", "", 0, false}, "'m/?'"}, // messages are UTF-8
        {{"m/data/0", "", 0, false}, "once"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const zip_entry entries[] = {{"m/data.pkl", "\x80\x02}.", 4, false}, good, cases[i].entry};
        zip(&archive, entries, 3);
        check_refused(archive.data, archive.n, cases[i].part);
    }
    zip(&archive, &good, 1);
    check_refused(archive.data, archive.n, "without data.pkl");
    check_refused("no such thing", 13, "something else");
}

Test(tensor_file, what_is_taken_for_tensors)
{
    uint8_t tar[512] = "storages";
    memcpy(tar + 257, "ustar", 5);
    check_refused("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20", 10, "before 1.6");
    check_refused("\x80\x05\x95", 3, "before 1.6");
    check_refused(tar, sizeof tar, "tar archive");
    check_refused("version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS");
}

// Every place where the archive can be cut, and every byte of its directories changed: refused or
// read, but never beyond its end.
Test(tensor_file, cut_and_changed_archives)
{
    static const pickled t = {"w", "FloatStorage", "0", 12, 0, 1, {12}, {1}};
    pickle_begin(&pickle_bytes);
    pickle_item(&pickle_bytes, &t);
    put_text(&pickle_bytes, "u.");
    make_archive(&archive, &pickle_bytes, false);
    for (size_t n = 1; n < archive.n; n++) {
        uint8_t *copy = gg_alloc(n, 1);
        gg_tensor_file *f = NULL;
        memcpy(copy, archive.data, n);
        cr_assert_neq(gg_tensor_file_open_memory(copy, n, "input", &f, NULL), GORGON_OK);
        gg_free(copy);
    }
    for (size_t i = 0; i < archive.n; i++) {
        gg_tensor_file *f = NULL;
        archive.data[i] ^= 0x41;
        if (gg_tensor_file_open_memory(archive.data, archive.n, "input", &f, NULL) == GORGON_OK) {
            const uint8_t *data;
            for (size_t k = 0; k < gg_tensor_file_count(f); k++)
                gg_tensor_file_data(f, gg_tensor_file_at(f, k), &data, NULL);
        }
        gg_tensor_file_close(f);
        archive.data[i] ^= 0x41;
    }
}

static size_t safetensors(uint8_t *to, const char *header, size_t data)
{
    const size_t n = strlen(header);
    memset(to, 0, 8 + n + data);
    to[0] = (uint8_t)n;
    to[1] = (uint8_t)(n >> 8);
    memcpy(to + 8, header, n);
    return 8 + n + data;
}

Test(tensor_file, headers_that_are_none)
{
    static const struct {
        const char *header;
        size_t data;
        const char *part;
    } cases[] = {
        {"[]", 0, "JSON object"},
        {"{\"__metadata__\":[]}", 0, "object of texts"},
        {"{\"__metadata__\":{\"a\":\"b\",\"c\":1}}", 0, "object of texts"},
        {"{\"a\":1}", 0, "an object with"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'F4'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "0 or more"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "6 sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "overflow"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "8 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "4 to 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "0 to 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "data at 0"},
        {"{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a name of"},
        {"{}", 4, "cover"},
        {"{\"a\":", 0, "not JSON"},
    };
    uint8_t data[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = safetensors(data, cases[i].header, cases[i].data);
        check_refused(data, n, cases[i].part);
    }
    memset(data, 0xff, 8);
    check_refused(data, 16, "length of the header at byte 0: expected at most 8");
}

typedef struct folder {
    char path[64];
} folder;

static folder folder_create(void)
{
    folder f = {"/tmp/gorgon-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(f.path));
    return f;
}

static void write_bytes(const folder *f, const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *stream = fopen(path, "wb");
    cr_assert(stream && fwrite(data, 1, n, stream) == n && fclose(stream) == 0);
}

static void write_shard(const folder *f, const char *name, const char *tensor)
{
    uint8_t data[256];
    char header[128];
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", tensor);
    const size_t n = safetensors(data, header, 2);
    data[n - 1] = (uint8_t)tensor[0];
    write_bytes(f, name, data, n);
}

static void remove_folder(const folder *f)
{
    static const char *const names[] = {"model.safetensors.index.json", "a.safetensors",
                                        "b.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
        unlink(path);
    }
    cr_assert_eq(rmdir(f->path), 0);
}

static void write_index(const folder *f, const char *map)
{
    char text[256];
    snprintf(text, sizeof text, "{\"metadata\": {}, \"weight_map\": {%s}}", map);
    write_bytes(f, "model.safetensors.index.json", text, strlen(text));
}

Test(tensor_file, checkpoints_of_several_files)
{
    const folder f = folder_create();
    write_shard(&f, "a.safetensors", "x");
    write_shard(&f, "b.safetensors", "y");
    write_index(&f, "\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"");
    gg_tensor_file *file = open_good(f.path);
    cr_assert(gg_tensor_file_count(file) == 2 && gg_tensor_file_parts(file) == 2);
    const gg_named_tensor *y = gg_tensor_file_find(file, "y");
    cr_assert(y && data_of(file, y)[1] == 'y' && strstr(y->file, "b.safetensors"));
    gg_tensor_file_close(file);

    static const hostile maps[] = {
        {"\"x\": \"a.safetensors\", \"y\": \"a.safetensors\"", "'y' in 'a.safetensors'"},
        {"\"x\": \"../a.safetensors\"", "'../a.safetensors'"},
        {"\"x\": \"/etc/passwd\"", "'/etc/passwd'"},
        {"\"x\": \"..\"", "'..'"},
        {"\"x\": 1", "no text"},
        {"\"x\": \"c.safetensors\"", "c.safetensors"},
        {"", "weight_map"},
        {"\"x\": \"a.safetensors\", \"x\": \"b.safetensors\"", "duplicate"},
        {"\"x\": \"model.safetensors.index.json\"", "something else"},
    };
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        gorgon_error err = {0};
        write_index(&f, maps[i].file);
        cr_assert_neq(gg_tensor_file_open(f.path, &file, &err), GORGON_OK);
        cr_assert(strstr(err.message, maps[i].part), "'%s' lacks '%s'", err.message, maps[i].part);
    }
    write_shard(&f, "b.safetensors", "x");
    gorgon_error err = {0};
    write_index(&f, "\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"");
    cr_assert_neq(gg_tensor_file_open(f.path, &file, &err), GORGON_OK);
    cr_assert(strstr(err.message, "once"), "%s", err.message);
    remove_folder(&f);
    err = (gorgon_error){0};
    cr_assert_eq(gg_tensor_file_open(HEADS, &file, &err), GORGON_ERROR_IO);
    cr_assert(strstr(err.message, "pytorch_model.bin"), "%s", err.message);
}

// Every allocation fails in turn: a MEMORY error, and nothing leaks (see the asan preset).
Test(tensor_file, failing_allocations)
{
    static const pickled t = {"w", "FloatStorage", "0", 12, 0, 2, {4, 3}, {1, 4}};
    const folder f = folder_create();
    pickle_begin(&pickle_bytes);
    pickle_item(&pickle_bytes, &t);
    put_text(&pickle_bytes, "u.");
    make_archive(&archive, &pickle_bytes, true);
    write_bytes(&f, "a.safetensors", archive.data, archive.n); // by content
    write_shard(&f, "b.safetensors", "y");
    write_index(&f, "\"w\": \"a.safetensors\", \"y\": \"b.safetensors\"");
    size_t failures = 0;
    gorgon_status status;
    do {
        gg_tensor_file *file = NULL;
        const uint8_t *data;
        gorgon_error err = {0};
        gg_alloc_fail_at(++failures);
        status = gg_tensor_file_open(f.path, &file, &err);
        if (status == GORGON_OK)
            status = gg_tensor_file_data(file, gg_tensor_file_find(file, "w"), &data, &err);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || status == GORGON_ERROR_MEMORY, "%s", err.message);
        gg_tensor_file_close(file);
    } while (status != GORGON_OK);
    cr_assert_gt(failures, 20);
    remove_folder(&f);
}
