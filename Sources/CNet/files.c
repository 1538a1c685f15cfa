#include "cnet_files.h"

#include <errno.h>
#include <sys/vfs.h>

int64_t cnet_filesystem_type(const char *path) {
  struct statfs info;
  int result;
  do {
    result = statfs(path, &info);
  } while (result != 0 && errno == EINTR);
  return result != 0 ? -(int64_t)errno : (int64_t)(uint32_t)info.f_type;
}
