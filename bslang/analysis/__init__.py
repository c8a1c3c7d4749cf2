"""What explains a block graph: figures, properties, reasons, paths, differences."""
