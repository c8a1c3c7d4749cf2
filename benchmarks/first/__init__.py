"""First contact with a GPU, in one run of eight minutes: what is right, what is broken, how fast it is."""
