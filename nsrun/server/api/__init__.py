"""The server side of the Kubernetes API: objects of all kinds as clients of it see and change them. Loaded when somebody asks for it."""
