"""What generated modules import: the layout object, the torch op, and the targets' launchers."""
