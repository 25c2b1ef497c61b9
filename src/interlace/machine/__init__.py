"""What the computer offers: memory, threads, processes, and a place to show progress."""
