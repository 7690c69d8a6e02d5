"""What this machine has and allows: cores, threads, memory, signals, the terminal."""
