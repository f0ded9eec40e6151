"""Ports of this machine that lead into a pod."""
