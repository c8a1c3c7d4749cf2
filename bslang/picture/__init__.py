"""Pictures of layouts: what is in each cell, and the renderers that draw it."""
