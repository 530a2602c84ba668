"""The `stockwire` command: each module is one group of commands over the other packages."""
