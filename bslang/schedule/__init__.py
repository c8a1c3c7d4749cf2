"""From block graphs to the tables that kernels walk."""
