"""Loads, but has no callable of the expected name."""

APPLICATION = None
