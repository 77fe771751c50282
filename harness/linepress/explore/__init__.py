"""Design-space search of the compressed memory channel: points, trials, the search over them, and its front."""
