"""What runs when: code that a job reads, snapshots, clusters, the warm server."""
