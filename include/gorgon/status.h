// Status codes and the error record that every fallible gorgon function fills.
#ifndef GORGON_STATUS_H
#define GORGON_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

// Result of a fallible call. 0 is success, failures are negative; the values are part of the ABI.
typedef enum gorgon_status {
    GORGON_OK = 0,
    GORGON_ERROR_ARGUMENT = -1,    // a caller's value is out of range
    GORGON_ERROR_MEMORY = -2,      // allocation failed or a size overflows
    GORGON_ERROR_IO = -3,          // open, read, write, rename failed
    GORGON_ERROR_FORMAT = -4,      // a file's content is malformed
    GORGON_ERROR_UNSUPPORTED = -5, // well formed, but not something this build handles
    GORGON_ERROR_MISMATCH = -6,    // two well-formed things do not belong together
    GORGON_ERROR_LIMIT = -7,       // a configured capacity (context, pages, rows) is exhausted
    GORGON_ERROR_CANCELLED = -8    // a callback asked to stop; files are whole and resumable
} gorgon_status;

// One line written by the deepest failure: what, which object, expected, got, byte offset.
typedef struct gorgon_error {
    gorgon_status status;
    char message[500]; // UTF-8, NUL-terminated, no newline
} gorgon_error;

// Stable short name of a status ("ok", "format", ...), never NULL. Thread-safe.
const char *gorgon_status_name(gorgon_status status);

#ifdef __cplusplus
}
#endif

#endif
