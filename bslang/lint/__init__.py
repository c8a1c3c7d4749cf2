"""What warns: layouts that are valid, but probably a mistake."""
