/* fuzz_tls_ocsp.c: OCSP responses (io/tls_ocsp.c) for one certificate, through a server that would
 * staple them. Checked: one that is taken has an end and is stale from then on, no beginning of it
 * is taken; one that is refused is refused with a sentence. */
#include "weir/io/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Made for this file; the responses in corpus/ are about it. Nothing trusts it. */
static const char cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBVDCB+6ADAgECAhQvou2/qscw5k6tCiRBOPZx1+AUqTAKBggqhkjOPQQDAjAX\n"
    "MRUwEwYDVQQDDAx3ZWlyIHRlc3QgQ0EwIBcNMjYwOTIyMDAwMDAwWhgPMjA4MTA4\n"
    "MDQwMDAwMDBaMBQxEjAQBgNVBAMMCWEuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG\n"
    "SM49AwEHA0IABDZ94pdwiXOR5HnIx/Rhy/cq6t9tCJEHFHKx6gqoAiTyW4kNtqm2\n"
    "0YxSlCRGRkw7IQ8k9MSlt5pOqfTGqjz26OSjJjAkMAwGA1UdEwEB/wQCMAAwFAYD\n"
    "VR0RBA0wC4IJYS5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUCIFYHJu1td3mVzR2P\n"
    "umTgeZJ5MZd7CQsjIcDs9OXW3DP6AiEAv/kEiadIiNZKdGmAZrZ5crxKbGPRFwXg\n"
    "9rxuidbIWB4=\n"
    "-----END CERTIFICATE-----\n";
static const char key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgR/e58Lkx1kJRJxRG\n"
    "lufQ8wOjKYeJ/xwU/MTFqt/fQM+hRANCAAQ2feKXcIlzkeR5yMf0Ycv3KurfbQiR\n"
    "BxRyseoKqAIk8luJDbapttGMUpQkRkZMOyEPJPTEpbeaTqn0xqo89ujk\n"
    "-----END PRIVATE KEY-----\n";

static struct tls_server *server_of(struct span response, uint32_t *bad, struct buf *why) {
  const struct tls_cert_conf one = {.cert_pem = span_str(cert),
                                    .key_pem = span_str(key),
                                    .label = SPAN_LIT("cert"),
                                    .ocsp_der = response,
                                    .ocsp_label = SPAN_LIT("response")};
  const struct tls_server_conf conf = {.certs = &one,
                                       .cert_count = 1,
                                       .min_version = 0x0304,
                                       .max_version = 0x0304,
                                       .policy_id = SPAN_LIT("p"),
                                       .workers = 1};
  return tls_server_new(&conf, bad, why);
}

static bool taken(struct span response) {
  char text[512];
  struct buf why = buf_of(text, sizeof text);
  uint32_t bad = 0;
  struct tls_server *server = server_of(response, &bad, &why);
  if (server) tls_server_unref(server);
  check(server ? why.len == 0 : why.len > 0 && bad == TLS_BAD_OCSP);
  return server != NULL;
}

static void check_ends(struct span response) {
  char text[512];
  struct buf why = buf_of(text, sizeof text);
  uint32_t bad = 0;
  struct span label;
  int64_t ends = 0;
  struct tls_server *server = server_of(response, &bad, &why);
  check(server && tls_server_ocsp(server, 0, &label, &ends));
  check(span_eq(label, SPAN_LIT("response")) && !tls_server_ocsp(server, 1, &label, &ends));
  check(tls_server_stale(server, ends, &bad, &why) && bad == TLS_BAD_OCSP && why.len > 0);
  tls_server_unref(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct span in = span_of((const char *)data, len);
  if (!len || !taken(in)) return 0;
  check_ends(in);
  check(!taken(span_sub(in, 0, len - 1)) || len == 1);
  return 0;
}
