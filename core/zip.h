// Zip archives in memory, as torch writes them: a read-only directory of entries, stored or
// deflated. Format: PKWARE APPNOTE 6.3.
#ifndef GG_ZIP_H
#define GG_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"

typedef struct gg_zip_entry {
    const char *name; // [length], in the archive, not terminated
    size_t length;
    const uint8_t *data;    // [packed]
    uint64_t packed, bytes; // as stored, and when unpacked
    bool deflated;
    uint32_t crc;            // of the unpacked bytes, 0: not computed
    size_t at;               // of the local header
    const uint8_t *contents; // [bytes] once asked for
    uint8_t *unpacked;       // owned, where they are not `data`
} gg_zip_entry;

typedef struct gg_zip gg_zip;

// Validates the whole directory: names (relative, no "..", each once), methods, sizes, and that
// entries lie apart, each where its local header agrees. An entry that would unpack to more than
// GG_ZIP_RATIO times its size is refused. Contents are not touched. label begins messages.
enum { GG_ZIP_RATIO = 100 };
gorgon_status gg_zip_open(const uint8_t *data, size_t size, const char *label, gg_zip **out,
                          gorgon_error *err);
void gg_zip_close(gg_zip *zip); // NULL is legal
size_t gg_zip_count(const gg_zip *zip);
const gg_zip_entry *gg_zip_at(const gg_zip *zip, size_t index);
const gg_zip_entry *gg_zip_find(const gg_zip *zip, const char *name); // NULL if absent
size_t gg_zip_index(const gg_zip *zip, const gg_zip_entry *entry);
// The unpacked bytes of an entry, borrowed until the archive is closed. The first call unpacks them
// and compares them with their checksum, if they have one.
gorgon_status gg_zip_contents(gg_zip *zip, size_t index, const uint8_t **out, gorgon_error *err);

#endif
