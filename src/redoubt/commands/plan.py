"""What a scale costs before it starts: jobs, hours, disk, and what is not available.

The first time it measures how fast this machine is, which takes minutes; what it finds is kept in logs/.
"""

from argparse import ArgumentParser, Namespace

from redoubt.commands import _project


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    _project.add_scale(parser)
    parser.add_argument("--measure", action="store_true", help="measure again what is kept in logs/")


def run(options: Namespace) -> int:
    """Print the plan."""
    _project.enter()
    from redoubt.tools import plan

    given = ["--scale", options.scale] if options.scale else []
    return plan.main([*given, *(["--measure"] if options.measure else [])])
