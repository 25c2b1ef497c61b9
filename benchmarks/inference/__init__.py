"""Times what follows a fit (degrees of freedom, bootstrap, profile) beside lme4 and its kin."""
