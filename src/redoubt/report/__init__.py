"""The report: one page that needs no network, and its summary on one screen."""
