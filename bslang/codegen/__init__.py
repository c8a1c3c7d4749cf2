"""From plans to generated source, through the templates."""
