"""Images against programs that nobody here wrote: umoci, skopeo, docker-registry."""
