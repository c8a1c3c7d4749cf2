"""Run-length block graphs: lowering, residual masks, transposition."""
