int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long len);
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long len) { (void)data; (void)len; return 0; }
