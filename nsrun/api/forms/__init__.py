"""The forms of the Kubernetes API: what a request or an answer says, without doing anything.

Pure functions on JSON terms: patches, server-side apply, discovery, tables, OpenAPI, protobuf.
"""
