"""The terminal face: the same Desk as the page, by commands, an interactive prompt and a live view."""
