"""Engines: where the agents' calls run. One today, asyncio; what spreads calls over processes would stand beside it."""
