"""Tests, by ring; see the Makefile."""
