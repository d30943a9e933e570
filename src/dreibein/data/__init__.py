"""From files to labelled structures."""
