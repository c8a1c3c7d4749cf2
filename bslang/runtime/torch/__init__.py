"""The torch target: blocks gathered and multiplied by torch operations."""
