/* files.c: bodies of responses that stand in files: read when the configuration is, so that a
 * request never waits for a disk. Called by load.c. */
#include <errno.h>

#include "load_priv.h"

/* FILE_BODY_MAX: what a response of weir's own can carry at once, with its head. */
#define FILE_BODY_MAX (128u * 1024u)

static struct span file_read(struct conf *conf, struct span path, struct place at) {
  struct text text = {0};
  const struct conf_reader *reader = conf->reader;
  int res =
      reader->read ? reader->read(reader->ctx, arena_str(&conf->arena, path), &text) : -ENOSYS;
  if (res == 0 && text.len > FILE_BODY_MAX) res = -EFBIG;
  struct span bytes = SPAN_EMPTY;
  if (res == 0) bytes = arena_copy(&conf->arena, text_span(&text), NULL);
  text_fini(&text);
  if (res == -EFBIG)
    fault_add(conf->faults, FAULT_FILE_READ, at, SPAN_FMT ": it has more than 128 KiB",
              SPAN_ARG(path));
  else if (res)
    fault_add(conf->faults, FAULT_FILE_READ, at, SPAN_FMT ": %s", SPAN_ARG(path),
              errno_text(-res));
  return bytes;
}

void files_load(struct conf *conf) {
  rows_each(&conf->root.routes, struct conf_route, route) {
    if (!route->respond_file.len) continue;
    struct place at = row_place(&route->row, OPTION_ROUTE_RESPOND_FILE);
    route->file_bytes = file_read(conf, route->respond_file, at);
  }
  rows_each(&conf->root.policies, struct conf_policy, policy) {
    rows_each(&policy->errors, struct conf_error, page) {
      if (!page->file.len) continue;
      page->file_bytes = file_read(conf, page->file, row_place(&page->row, OPTION_ERROR_FILE));
    }
  }
}
