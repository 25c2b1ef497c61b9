"""The bootstrap: what is resampled, refitted, and said of the replicates."""
