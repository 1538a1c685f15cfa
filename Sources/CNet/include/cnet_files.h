#pragma once
#include <stdint.h>

// What the watching of source files needs that Swift's Glibc module does not reach.

/// The kind of the file system a path lies on (statfs(2)'s f_type), or a negative errno.
int64_t cnet_filesystem_type(const char *path);
