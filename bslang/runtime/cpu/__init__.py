"""The cpu target: generated C++, built on first use."""
