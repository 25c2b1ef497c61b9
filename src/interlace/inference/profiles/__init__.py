"""Profile likelihoods: one quantity held, all else free."""
