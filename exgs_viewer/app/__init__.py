"""The window and the engine behind it."""
