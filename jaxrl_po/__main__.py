"""`python -m jaxrl_po`: see `jaxrl_po.host.cli`."""

from jaxrl_po.host.cli import main

main()
