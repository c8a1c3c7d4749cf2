"""Syntax trees to patterns: names, parameters, numbers, units, signatures."""
