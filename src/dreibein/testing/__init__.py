"""Laws that others can call; nothing in the package imports this room."""
