"""How the stack is put together: containers, or child processes from wheels."""
