"""What probes do with servers of every kind, on the test host's own loopback."""
