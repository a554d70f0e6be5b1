"""The creditgate server: decides, in atomic scripts, whether an account may run a job."""
