"""GPU kernels without a call: ahead of time, machine code, tuning."""
