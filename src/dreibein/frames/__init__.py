"""Local frames as data, and features carried between them."""
