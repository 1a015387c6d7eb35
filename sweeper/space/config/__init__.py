"""A configuration: its fields and values, and the rules of thumb that fill in what a file leaves out."""
