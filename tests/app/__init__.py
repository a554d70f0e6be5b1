"""The parts joined: how a server starts, keeps watch, drains and ends."""
