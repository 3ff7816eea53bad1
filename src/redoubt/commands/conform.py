"""Hold a defense or an attack to what Redoubt promises of its own: a line for each check, and what to fix.

  redoubt conform my/defenses/trades.py --parameters '{"epsilon": 0.1}'

A small network is trained on handwritten digits, which takes a minute. The exit code is 1 where a check fails.
"""

from argparse import ArgumentParser, Namespace


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("method", help="name of a defense or an attack, or its file")
    parser.add_argument("--parameters", default="{}", help="its parameters as JSON, for digits of 28x28 pixels")
    parser.add_argument("--network", default="mlp", help="for a defense: the network that it trains")


def run(options: Namespace) -> int:
    """Print the checks; return 1 where one fails."""
    from redoubt.tools import conform

    return conform.main([options.method, "--parameters", options.parameters, "--network", options.network])
