// See zip.h. Every entry is described twice, in the central directory and in front of its data:
// the directory is believed where the local header says nothing else.
#include "zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"
#include "utf8.h"

enum {
    END_BYTES = 22,       // end of central directory
    END64_BYTES = 56,     // its 64-bit form
    LOCATOR_BYTES = 20,   // that leads to it
    CENTRAL_BYTES = 46,   // central header
    LOCAL_BYTES = 30,     // local header
    EXTRA64 = 1,          // extra field with 64-bit sizes
    FLAG_LATER = 8,       // sizes follow the data
    FLAGS = 6 | 8 | 2048, // levels of deflate, sizes later, UTF-8 names
    SLACK = 1 << 16,      // bytes that any entry may unpack to
};

static const uint32_t local_magic = 0x04034b50, central_magic = 0x02014b50, end_magic = 0x06054b50,
                      end64_magic = 0x06064b50, locator_magic = 0x07064b50;

struct gg_zip {
    const uint8_t *data;
    size_t size;
    const char *label;
    gg_zip_entry *entries; // in the order of the directory
    uint32_t *order;       // [n] by name
    size_t n;
};

// The central directory as the end of the file describes it.
typedef struct directory {
    uint64_t n, bytes, at;
} directory;

// One central header.
typedef struct header {
    size_t at; // of the central header
    uint32_t flags, method, crc, disk;
    uint64_t packed, bytes, local;
    size_t n_name, n_extra, n_comment;
    const uint8_t *name, *extra;
} header;

static gg_cursor cursor_at(const gg_zip *z, size_t at, gorgon_error *err)
{
    return (gg_cursor){
        .base = z->data, .size = z->size, .position = at, .label = z->label, .err = err};
}

static uint32_t peek_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

// Position of the end record: the last one whose comment reaches exactly to the end of the file.
static gorgon_status find_end(const gg_zip *z, size_t *at, gorgon_error *err)
{
    const size_t furthest = END_BYTES + UINT16_MAX;
    const size_t first = z->size > furthest ? z->size - furthest : 0;
    for (size_t i = z->size < END_BYTES ? 0 : z->size - END_BYTES + 1; i-- > first;) {
        const uint8_t *p = z->data + i;
        if (peek_u32(p) == end_magic && z->size - i - END_BYTES == (size_t)(p[20] | p[21] << 8)) {
            *at = i;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_FORMAT,
                   "%s: expected a zip archive with a central directory at its end, got %zu bytes "
                   "without one (cut off?)",
                   z->label, z->size);
}

// The 64-bit end record in front of the end record at *end, if there is one: *end becomes its
// position.
static gorgon_status read_end64(const gg_zip *z, size_t *end, directory *d, gorgon_error *err)
{
    if (*end < LOCATOR_BYTES || peek_u32(z->data + *end - LOCATOR_BYTES) != locator_magic)
        return GORGON_OK;
    gg_cursor c = cursor_at(z, *end - LOCATOR_BYTES + 8, err);
    const uint64_t at = gg_read_u64(&c, "zip64 locator");
    if (at > *end - LOCATOR_BYTES || *end - LOCATOR_BYTES - at != END64_BYTES ||
        peek_u32(z->data + at) != end64_magic)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: zip64 locator at byte %zu: expected the position of an end record, got "
                       "%" PRIu64,
                       z->label, *end - LOCATOR_BYTES, at);
    c = cursor_at(z, (size_t)at + 24, err);
    const uint64_t here = gg_read_u64(&c, "zip64 end record");
    directory d64 = {.n = gg_read_u64(&c, "zip64 end record")};
    d64.bytes = gg_read_u64(&c, "zip64 end record");
    d64.at = gg_read_u64(&c, "zip64 end record");
    const bool same = (d->n == UINT16_MAX || d->n == d64.n) &&
                      (d->bytes == UINT32_MAX || d->bytes == d64.bytes) &&
                      (d->at == UINT32_MAX || d->at == d64.at) && here == d64.n;
    if (!same)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: zip64 end record at byte %" PRIu64
                       ": expected the figures of the end record, got others",
                       z->label, at);
    *d = d64;
    *end = (size_t)at;
    return GORGON_OK;
}

static gorgon_status read_end(const gg_zip *z, directory *d, gorgon_error *err)
{
    size_t end = 0;
    gorgon_status status = find_end(z, &end, err);
    if (status != GORGON_OK)
        return status;
    gg_cursor c = cursor_at(z, end + 4, err);
    const uint32_t disks = gg_read_u32(&c, "end of directory");
    const uint16_t here = gg_read_u16(&c, "end of directory");
    *d = (directory){.n = gg_read_u16(&c, "end of directory")};
    d->bytes = gg_read_u32(&c, "end of directory");
    d->at = gg_read_u32(&c, "end of directory");
    if (disks != 0 || here != d->n)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "%s: end of directory at byte %zu: expected an archive in one piece, got "
                       "one of several",
                       z->label, end);
    status = read_end64(z, &end, d, err);
    if (status != GORGON_OK)
        return status;
    if (d->at > end || d->bytes != end - d->at)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: expected a central directory that ends at byte %zu, got %" PRIu64
                       " bytes from byte %" PRIu64 " on",
                       z->label, end, d->bytes, d->at);
    if (d->n > GG_MAX_TENSORS || d->n > d->bytes / CENTRAL_BYTES)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: central directory at byte %" PRIu64 ": %" PRIu64
                       " entries do not fit into its %" PRIu64 " bytes",
                       z->label, d->at, d->n, d->bytes);
    return GORGON_OK;
}

// Sizes of 64 bits from the extra field, in the place of those that are all ones.
static bool read_extra(const uint8_t *extra, size_t n, uint64_t **fields, size_t n_fields)
{
    gg_cursor c = {.base = extra, .size = n};
    while (gg_cursor_left(&c) >= 4) {
        const uint16_t id = gg_read_u16(&c, ""), bytes = gg_read_u16(&c, "");
        if (id != EXTRA64) {
            gg_read_bytes(&c, bytes, "");
            continue;
        }
        if (bytes > gg_cursor_left(&c))
            return false;
        c.size = c.position + bytes;
        for (size_t i = 0; i < n_fields; i++) {
            if (*fields[i] == UINT32_MAX)
                *fields[i] = gg_read_u64(&c, "");
        }
        return c.status == GORGON_OK;
    }
    return true;
}

static gorgon_status reject(const gg_zip *z, const header *h, gorgon_error *err,
                            const char *expected)
{
    const int shown = (int)(h->n_name < 80 ? h->n_name : 80);
    return gg_fail(err, GORGON_ERROR_FORMAT, "%s: entry '%.*s' at byte %zu: expected %s", z->label,
                   shown, (const char *)h->name, h->at, expected);
}

static gorgon_status check_name(const gg_zip *z, const header *h, gorgon_error *err)
{
    const char *name = (const char *)h->name;
    if (h->n_name == 0 || h->n_name > GG_MAX_NAME || name[0] == '/' ||
        !gg_utf8_printable(name, h->n_name) || memchr(name, '\\', h->n_name))
        return reject(z, h, err, "a relative name of 1 to 256 printable bytes");
    for (size_t i = 0, begin = 0; i <= h->n_name; i++) {
        if (i < h->n_name && name[i] != '/')
            continue;
        if (i - begin == 2 && name[begin] == '.' && name[begin + 1] == '.')
            return reject(z, h, err, "a name inside the archive, got one with '..'");
        begin = i + 1;
    }
    return GORGON_OK;
}

static gorgon_status check_header(const gg_zip *z, const header *h, gorgon_error *err)
{
    gorgon_status status = check_name(z, h, err);
    if (status != GORGON_OK)
        return status;
    if ((h->flags & ~(uint32_t)FLAGS) != 0 || h->disk != 0)
        return reject(z, h, err, "no encryption and one disk, got other flags");
    if (h->method != 0 && h->method != 8)
        return reject(z, h, err, "method 0 (stored) or 8 (deflated), got another one");
    if (h->method == 0 && h->packed != h->bytes)
        return reject(z, h, err, "a stored entry of one size, got two");
    if (h->bytes > SLACK && h->bytes / GG_ZIP_RATIO > h->packed)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: entry '%.*s' at byte %zu: %" PRIu64 " bytes would unpack to %" PRIu64
                       ", expected at most %d times as many",
                       z->label, (int)h->n_name, (const char *)h->name, h->at, h->packed, h->bytes,
                       GG_ZIP_RATIO);
    return GORGON_OK;
}

static gorgon_status read_header(const gg_zip *z, gg_cursor *c, header *h)
{
    const char *what = "central directory";
    *h = (header){.at = c->position, .name = (const uint8_t *)""};
    const uint32_t magic = gg_read_u32(c, what);
    gg_read_u32(c, what); // versions
    h->flags = gg_read_u16(c, what);
    h->method = gg_read_u16(c, what);
    gg_read_u32(c, what); // time
    h->crc = gg_read_u32(c, what);
    h->packed = gg_read_u32(c, what);
    h->bytes = gg_read_u32(c, what);
    h->n_name = gg_read_u16(c, what);
    h->n_extra = gg_read_u16(c, what);
    h->n_comment = gg_read_u16(c, what);
    h->disk = gg_read_u16(c, what);
    gg_read_bytes(c, 6, what); // attributes
    h->local = gg_read_u32(c, what);
    if (c->status == GORGON_OK && magic != central_magic)
        c->status = reject(z, h, c->err, "a central header");
    const uint8_t *name = gg_read_bytes(c, h->n_name, what);
    h->extra = gg_read_bytes(c, h->n_extra, what);
    gg_read_bytes(c, h->n_comment, what);
    if (c->status != GORGON_OK)
        return c->status;
    h->name = name;
    uint64_t *wide[] = {&h->bytes, &h->packed, &h->local};
    if (!read_extra(h->extra, h->n_extra, wide, 3))
        return reject(z, h, c->err, "64-bit sizes in its extra field");
    return check_header(z, h, c->err);
}

// What stands in front of the data must not say anything else. *data: where they begin.
static gorgon_status check_local(const gg_zip *z, const header *h, uint64_t limit, uint64_t *data,
                                 gorgon_error *err)
{
    if (h->local > limit || limit - h->local < LOCAL_BYTES)
        return reject(z, h, err, "a local header in front of the directory");
    gg_cursor c = cursor_at(z, (size_t)h->local, err);
    const uint32_t magic = gg_read_u32(&c, "local header");
    gg_read_u16(&c, "local header"); // version
    const uint32_t flags = gg_read_u16(&c, "local header"),
                   method = gg_read_u16(&c, "local header");
    gg_read_u32(&c, "local header"); // time
    const uint32_t crc = gg_read_u32(&c, "local header");
    uint64_t packed = gg_read_u32(&c, "local header"), bytes = gg_read_u32(&c, "local header");
    const size_t n_name = gg_read_u16(&c, "local header"),
                 n_extra = gg_read_u16(&c, "local header");
    const uint8_t *name = gg_read_bytes(&c, n_name, "local header");
    const uint8_t *extra = gg_read_bytes(&c, n_extra, "local header");
    if (c.status != GORGON_OK)
        return c.status;
    if (magic != local_magic || flags != h->flags || method != h->method || n_name != h->n_name ||
        memcmp(name, h->name, n_name) != 0)
        return reject(z, h, err, "a local header like the central one");
    uint64_t *wide[] = {&bytes, &packed};
    if (!read_extra(extra, n_extra, wide, 2))
        return reject(z, h, err, "64-bit sizes in the local extra field");
    const bool absent = (flags & FLAG_LATER) && crc == 0 && packed == 0 && bytes == 0;
    if (!absent && (crc != h->crc || packed != h->packed || bytes != h->bytes))
        return reject(z, h, err, "a local header with the sizes of the central one");
    *data = c.position;
    return h->packed <= limit - c.position ? GORGON_OK
                                           : reject(z, h, err, "data in front of the directory");
}

static gorgon_status read_entries(gg_zip *z, const directory *d, gorgon_error *err)
{
    gg_cursor c = cursor_at(z, (size_t)d->at, err);
    c.size = (size_t)(d->at + d->bytes);
    for (size_t i = 0; i < z->n; i++) {
        header h;
        uint64_t data = 0;
        gorgon_status status = read_header(z, &c, &h);
        if (status == GORGON_OK)
            status = check_local(z, &h, d->at, &data, err);
        if (status != GORGON_OK)
            return status;
        z->entries[i] = (gg_zip_entry){.name = (const char *)h.name,
                                       .length = h.n_name,
                                       .data = z->data + data,
                                       .packed = h.packed,
                                       .bytes = h.bytes,
                                       .deflated = h.method == 8,
                                       .crc = h.crc,
                                       .at = (size_t)h.local};
    }
    if (c.position != c.size)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "%s: central directory at byte %" PRIu64 ": expected %" PRIu64
                       " bytes for %zu entries, got %zu",
                       z->label, d->at, d->bytes, z->n, c.position - (size_t)d->at);
    return GORGON_OK;
}

static int compare_names(const char *a, size_t n_a, const char *b, size_t n_b)
{
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : n_a < n_b ? -1 : n_a > n_b;
}

static int by_place(const void *a, const void *b)
{
    const gg_zip_entry *x = *(const gg_zip_entry *const *)a;
    const gg_zip_entry *y = *(const gg_zip_entry *const *)b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_name(const void *a, const void *b)
{
    const gg_zip_entry *x = *(const gg_zip_entry *const *)a;
    const gg_zip_entry *y = *(const gg_zip_entry *const *)b;
    return compare_names(x->name, x->length, y->name, y->length);
}

// No entry reaches into another one, no name is there twice; fills z->order.
static gorgon_status sort_entries(gg_zip *z, gorgon_error *err)
{
    const gg_zip_entry **list = gg_alloc(z->n, sizeof *list);
    gorgon_status status = GORGON_OK;
    if (!list)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", z->label);
    for (size_t i = 0; i < z->n; i++)
        list[i] = &z->entries[i];
    qsort(list, z->n, sizeof *list, by_place);
    for (size_t i = 1; i < z->n && status == GORGON_OK; i++) {
        const gg_zip_entry *before = list[i - 1], *e = list[i];
        if (e->at - before->at < (size_t)(before->data - z->data) - before->at + before->packed)
            status = gg_fail(err, GORGON_ERROR_FORMAT,
                             "%s: entry '%.*s' at byte %zu: expected bytes of its own, got some of "
                             "'%.*s'",
                             z->label, (int)e->length, e->name, e->at, (int)before->length,
                             before->name);
    }
    qsort(list, z->n, sizeof *list, by_name);
    for (size_t i = 0; i < z->n && status == GORGON_OK; i++) {
        z->order[i] = (uint32_t)(list[i] - z->entries);
        if (i > 0 && by_name(&list[i - 1], &list[i]) == 0)
            status = gg_fail(err, GORGON_ERROR_FORMAT,
                             "%s: entry '%.*s' at byte %zu: expected each name once, got it twice",
                             z->label, (int)list[i]->length, list[i]->name, list[i]->at);
    }
    gg_free(list);
    return status;
}

gorgon_status gg_zip_open(const uint8_t *data, size_t size, const char *label, gg_zip **out,
                          gorgon_error *err)
{
    directory d = {0};
    *out = NULL;
    gg_zip *z = gg_alloc(1, sizeof *z);
    if (!z)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label);
    *z = (gg_zip){.data = data, .size = size, .label = label};
    gorgon_status status = read_end(z, &d, err);
    if (status == GORGON_OK) {
        z->n = (size_t)d.n;
        z->entries = gg_alloc(z->n, sizeof *z->entries);
        z->order = gg_alloc(z->n, sizeof *z->order);
        if (!z->entries || !z->order)
            status = gg_fail(err, GORGON_ERROR_MEMORY, "%s: out of memory", label);
    }
    if (status == GORGON_OK)
        status = read_entries(z, &d, err);
    if (status == GORGON_OK)
        status = sort_entries(z, err);
    if (status == GORGON_OK)
        *out = z;
    else
        gg_zip_close(z);
    return status;
}

void gg_zip_close(gg_zip *zip)
{
    if (!zip)
        return;
    for (size_t i = 0; zip->entries && i < zip->n; i++)
        gg_free(zip->entries[i].unpacked);
    gg_free(zip->entries);
    gg_free(zip->order);
    gg_free(zip);
}

size_t gg_zip_count(const gg_zip *zip)
{
    return zip->n;
}

const gg_zip_entry *gg_zip_at(const gg_zip *zip, size_t index)
{
    return &zip->entries[index];
}

size_t gg_zip_index(const gg_zip *zip, const gg_zip_entry *entry)
{
    return (size_t)(entry - zip->entries);
}

const gg_zip_entry *gg_zip_find(const gg_zip *zip, const char *name)
{
    size_t low = 0, high = zip->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const gg_zip_entry *e = &zip->entries[zip->order[middle]];
        const int order = compare_names(name, strlen(name), e->name, e->length);
        if (order == 0)
            return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

// zlib counts in 32 bits.
static bool inflate_all(const gg_zip_entry *e, uint8_t *to)
{
    enum { CHUNK = 1 << 30 };
    uint64_t in = e->packed, out = e->bytes;
    uint8_t beyond; // takes what would be too much
    z_stream s = {0};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return false;
    union {
        const uint8_t *from;
        Bytef *to;
    } source = {.from = e->data}; // next_in is not const in every build of zlib
    s.next_in = source.to;
    s.next_out = to;
    int result = Z_OK;
    while (result == Z_OK) {
        if (s.avail_in == 0 && in > 0) {
            s.avail_in = (uInt)(in < CHUNK ? in : CHUNK);
            in -= s.avail_in;
        }
        if (s.avail_out == 0 && out > 0) {
            s.avail_out = (uInt)(out < CHUNK ? out : CHUNK);
            out -= s.avail_out;
        } else if (s.avail_out == 0) {
            s.next_out = &beyond;
            s.avail_out = 1;
        }
        result = inflate(&s, Z_NO_FLUSH);
    }
    inflateEnd(&s);
    return result == Z_STREAM_END && s.total_out == e->bytes;
}

static gorgon_status unpack(const gg_zip *z, gg_zip_entry *e, gorgon_error *err)
{
    e->unpacked = gg_alloc_uninit((size_t)e->bytes, 1);
    if (!e->unpacked)
        return gg_fail(err, GORGON_ERROR_MEMORY, "%s: entry '%.*s': out of memory", z->label,
                       (int)e->length, e->name);
    if (inflate_all(e, e->unpacked))
        return GORGON_OK;
    return gg_fail(err, GORGON_ERROR_FORMAT,
                   "%s: entry '%.*s' at byte %zu: expected deflated data of %" PRIu64
                   " bytes, got others",
                   z->label, (int)e->length, e->name, e->at, e->bytes);
}

gorgon_status gg_zip_contents(gg_zip *zip, size_t index, const uint8_t **out, gorgon_error *err)
{
    gg_zip_entry *e = &zip->entries[index];
    *out = e->contents;
    if (e->contents)
        return GORGON_OK;
    gorgon_status status = e->deflated ? unpack(zip, e, err) : GORGON_OK;
    const uint8_t *contents = e->deflated ? e->unpacked : e->data;
    // torch.save writes 0 when it is told not to compute checksums.
    const uint32_t crc = status == GORGON_OK && e->crc != 0
                             ? (uint32_t)crc32_z(crc32(0, NULL, 0), contents, (size_t)e->bytes)
                             : e->crc;
    if (crc != e->crc)
        status =
            gg_fail(err, GORGON_ERROR_FORMAT,
                    "%s: entry '%.*s' at byte %zu: expected CRC-32 %08" PRIx32 ", got %08" PRIx32,
                    zip->label, (int)e->length, e->name, e->at, e->crc, crc);
    if (status == GORGON_OK) {
        *out = e->contents = contents;
    } else {
        gg_free(e->unpacked);
        e->unpacked = NULL;
    }
    return status;
}
