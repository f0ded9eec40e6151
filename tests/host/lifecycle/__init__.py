"""The life of pods, on real processes."""
