"""Files of rows and their formats, as conversations."""
