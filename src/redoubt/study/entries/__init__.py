"""What steps are given, one record for each kind; separate files, so that an edit of one makes no other job again."""
