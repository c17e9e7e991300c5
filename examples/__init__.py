"""What the library looks like in use. `python -m examples` runs the chat."""
