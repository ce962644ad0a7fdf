// Writing a file whole or not at all: data goes to a temporary beside the target, commit renames.
#ifndef GORGON_OUTPUT_H
#define GORGON_OUTPUT_H

#include <stddef.h>

#include "gorgon/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// Writes go to "<path>.tmp.<pid>" (with a further number where that exists); commit flushes, fsyncs
// and renames over path. Symbolic links are followed, the permissions of a file that is replaced
// are kept; a path that names a directory or a device is refused. Errors: IO (naming the path and
// the system's reason), MEMORY.
typedef struct gorgon_output gorgon_output;
gorgon_status gorgon_output_create(const char *path, gorgon_output **out, gorgon_error *err);
gorgon_status gorgon_output_write(gorgon_output *out, const void *data, size_t n,
                                  gorgon_error *err);
// Both free the object. discard removes the temporary; commit on failure removes it as well.
gorgon_status gorgon_output_commit(gorgon_output *out, gorgon_error *err);
void gorgon_output_discard(gorgon_output *out); // NULL is legal

#ifdef __cplusplus
}
#endif

#endif
