"""What a command takes: its short help, and the mistakes that are found before torch is imported."""
