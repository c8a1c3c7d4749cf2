"""What editors ask of a language: colours, and the answers of `bslang lsp`."""
