"""Each example is started with the very command of its README, and asked what the README shows."""
