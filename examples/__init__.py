"""Small apps that use aiohttp-ably. `python -m examples` runs the demo, a chat."""
