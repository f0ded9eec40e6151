"""What the NodeConformance tests of Kubernetes ask of a node, said in our words against the API over HTTP.

A case bears the title of the test whose meaning it has, and runs in a namespace of its own. All run at the same time: most of a
test's time is waiting. Images are made here: a busybox with a script for what the suite's own image does.
"""
