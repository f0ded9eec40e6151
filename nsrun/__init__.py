"""nsrun: Kubernetes Pods on one Linux machine, without Kubernetes."""
