"""The command line: one command a file. Data on stdout, messages on stderr."""
