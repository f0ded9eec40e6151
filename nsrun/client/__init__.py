"""The client: frames and descriptors over the control socket, starting the server, and the library's faces.

    roots       which directories belong to a root
    wire        one connection: frames, descriptors, greeting
    start       bringing a server up when there is none
    session     requests that outlive a server's death
    manifests   the caller's files as documents
    crilog      log records: decoding, joining, the last lines
    logs        reading and following the log files the server hands over
    execute     exec and attach: the streams of a process in a container
    terminal    raw mode that is always undone
    library     Client and Pod, the synchronous face
    aio         AsyncClient and AsyncPod
    engine      a private server that ends with the process that asked for it
    offline     validate and plan without a server; the one door to nsrun.spec and nsrun.plan

Nothing is imported here: every command pays only for what it uses.
"""
