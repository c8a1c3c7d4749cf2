"""What bslang costs, measured beside its peers: `python -m benchmarks.cpu`. See README.md."""
