"""The report: one page that needs no network, its summary on one screen, and a run in the forms that others read."""
