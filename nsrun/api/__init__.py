"""The Kubernetes API of one machine, served by a process of its own."""
