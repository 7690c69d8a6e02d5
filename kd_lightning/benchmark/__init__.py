"""The command benchmark: what training costs on this machine, beside the loop that tutorials write."""
