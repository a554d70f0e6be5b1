"""`python -m creditgate_server.cli` is `creditgate`."""

from creditgate_server.cli import main

main()
