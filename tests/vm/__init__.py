"""The vm ring: nsrun in a virtual machine with a kernel, cgroups (version 2 alone) and an init of its own.

`image.py` makes the machine's disks, `machine.py` runs it, `agent.py` is what listens to commands inside; `init` starts that where there
is no systemd. `python -m tests.vm -- COMMAND` runs one command in such a machine.
"""
