/* replay_main.c: replays files through a fuzz target without libFuzzer: fuzz_X PATH..., a PATH
 * being a file or a directory (not recursive). Used by every preset but fuzz, run by ctest over
 * fuzz/corpus/X and fuzz/regress/X, and by hand on a crash file. A missing path is fine (regress/X
 * exists only after a first bug); no input at all is a failure, as then nothing was tested. It
 * mutates nothing and judges nothing: the target aborts. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INPUT_MAX = 4 << 20 }; /* bytes; libFuzzer's own inputs are far below */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static size_t replayed_count;

static int replay_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
    return 1;
  }
  uint8_t *whole = malloc(INPUT_MAX);
  size_t len = whole == NULL ? 0 : fread(whole, 1, INPUT_MAX, file);
  int bad = whole == NULL || ferror(file) != 0 || fgetc(file) != EOF;
  fclose(file);
  if (bad) {
    fprintf(stderr, "replay: %s: cannot be read whole (limit %d bytes)\n", path, INPUT_MAX);
    free(whole);
    return 1;
  }
  /* Exactly len bytes, so that ASan sees a read of one too many; NULL for none. */
  uint8_t *exact = len == 0 ? NULL : malloc(len);
  if (exact != NULL) {
    memcpy(exact, whole, len);
  }
  free(whole);
  fprintf(stderr, "replay: %s (%zu bytes)\n", path,
          len); /* the last line names the culprit of an abort */
  LLVMFuzzerTestOneInput(exact, len);
  free(exact);
  replayed_count++;
  return 0;
}

static int replay_dir(const char *path) {
  struct dirent **names = NULL;
  int count = scandir(path, &names, NULL, alphasort);
  if (count < 0) {
    fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
    return 1;
  }
  int failed = 0;
  for (int i = 0; i < count; i++) {
    char file[4096];
    int len = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
    struct stat st;
    if (len > 0 && (size_t)len < sizeof file && stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
      failed |= replay_file(file);
    }
    free(names[i]);
  }
  free((void *)names);
  return failed;
}

int main(int argc, char **argv) {
  if (LLVMFuzzerInitialize != NULL) {
    LLVMFuzzerInitialize(&argc, &argv);
  }
  int failed = 0;
  for (int i = 1; i < argc; i++) {
    struct stat st;
    if (stat(argv[i], &st) != 0) {
      if (errno != ENOENT) {
        fprintf(stderr, "replay: %s: %s\n", argv[i], strerror(errno));
        failed = 1;
      }
      continue;
    }
    failed |= S_ISDIR(st.st_mode) ? replay_dir(argv[i]) : replay_file(argv[i]);
  }
  fprintf(stderr, "replay: %zu inputs\n", replayed_count);
  if (replayed_count == 0) {
    fprintf(stderr, "replay: no input found; add seeds to fuzz/corpus/<target>/\n");
    return 1;
  }
  return failed;
}
