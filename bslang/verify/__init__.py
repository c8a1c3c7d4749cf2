"""Every target against dense attention in fp64."""
