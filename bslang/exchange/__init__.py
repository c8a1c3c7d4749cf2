"""Layouts to and from other libraries' masks: FlexAttention, dense matrices, BSR, SciPy, networkx, safetensors."""
