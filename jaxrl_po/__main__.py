"""`python -m jaxrl_po`: see `jaxrl_po.host.cli.main`."""

from jaxrl_po.host.cli.main import main

main()
