"""Other libraries' attacks behind the interface of ours."""
