"""Parameters to templates: how the effects of one level of a term vary together."""
