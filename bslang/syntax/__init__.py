"""What was written: source text, syntax tree, parser and diagnostics."""
