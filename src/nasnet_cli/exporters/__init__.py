"""A network in, a file of another form out: read from any form, written, run and compared."""
