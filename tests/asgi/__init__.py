"""ASGI applications, once per loop that has asyncio's interface; by the real process, as always."""
