"""The server: observe, decide, do, for ever; one asyncio loop per root directory. It may be SIGKILLed at any moment."""
