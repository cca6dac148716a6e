"""One script for every figure of Freeman & Bruna 2017; constants on top, public API only."""
