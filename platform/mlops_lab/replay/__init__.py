"""Plays the year against the running platform, as production would: in time order, through HTTP, with outcomes that arrive late."""
