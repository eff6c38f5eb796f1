"""Which batch normalisations a graph holds, and what updates them."""
