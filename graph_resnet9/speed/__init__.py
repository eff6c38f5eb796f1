"""How fast it is, beside the machine and beside others."""
