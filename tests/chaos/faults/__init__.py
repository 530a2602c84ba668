"""What is broken, and the proof that it was."""
