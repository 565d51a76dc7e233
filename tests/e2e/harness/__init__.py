"""The end-to-end harness: weir under test, backends that record, clients that parse strictly."""
