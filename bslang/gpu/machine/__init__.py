"""Machine code of kernels, read from the text that disassemblers print: what is in it and what it needs."""
