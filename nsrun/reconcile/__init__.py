"""Deciding: `decide(pod, observed, now)` is a pure function from what is seen to what is to be done."""
