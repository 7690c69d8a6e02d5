"""The fast path: many training steps in one call of Lightning's, which costs as much as a small network's step."""
