"""The whole loop as a story in six acts, and the checker that believes only the stores."""
