/* h2_settings.c: SETTINGS values checked and kept (RFC 9113 section 6.5, RFC 8441 section 3), by
 * the table h2_setting.def. What a change means for windows and tables is the connection's. */
#include "weir/http/h2_settings.h"

/* setting_row is a row of h2_setting.def. */
struct setting_row {
  uint8_t error; /* enum h2_error */
  uint32_t least, most;
  struct span reason;
};

static const struct setting_row rows[] = {
#define SETTING(id, member, code, initial, low, high, kind) \
  [code] = {.error = H2_##kind, \
            .least = (low), \
            .most = (high), \
            .reason = {"SETTINGS_" #id " is out of range", \
                       sizeof("SETTINGS_" #id " is out of range") - 1}},
#include "weir/http/h2_setting.def"
#undef SETTING
};

const struct h2_settings h2_settings_default = {
#define SETTING(id, member, code, initial, least, most, error) .member = (initial),
#include "weir/http/h2_setting.def"
#undef SETTING
};

static bool fail(struct h2_refusal *why, enum h2_error error, struct span reason) {
  *why = (struct h2_refusal){.error = error, .reason = reason};
  return false;
}

/* member_of is where a row's value goes; NULL: the identifier means nothing to weir. */
static uint32_t *member_of(struct h2_settings *settings, uint32_t id) {
  switch (id) {
#define SETTING(name, member, code, initial, least, most, error) \
  case code: \
    return &settings->member;
#include "weir/http/h2_setting.def"
#undef SETTING
    default: return NULL;
  }
}

bool h2_settings_set(struct h2_settings *settings, bool by_server, uint32_t id, uint32_t value,
                     struct h2_refusal *why) {
  uint32_t *member = member_of(settings, id);
  if (member == NULL) return true;
  const struct setting_row *row = &rows[id];
  if (value < row->least || value > row->most)
    return fail(why, (enum h2_error)row->error, row->reason);
  if (by_server && id == H2_SETTING_ENABLE_PUSH && value != 0)
    return fail(why, H2_PROTOCOL_ERROR, SPAN_LIT("a server enables push"));
  if (id == H2_SETTING_ENABLE_CONNECT_PROTOCOL && value < settings->enable_connect_protocol)
    return fail(why, H2_PROTOCOL_ERROR, SPAN_LIT("SETTINGS_ENABLE_CONNECT_PROTOCOL taken back"));
  *member = value;
  return true;
}
